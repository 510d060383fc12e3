"""Convert a Whisper, Canary or Parakeet checkpoint to a bundle.

python -m tools.convert_weights whisper-base/ bundles/base --memory-from samples --verify
python -m tools.convert_weights canary-1b-v2.nemo bundles/canary-1b-v2
"""

from pathlib import Path
from typing import Annotated, Literal

import jax.numpy as jnp
import tyro
from rich.progress import track

from tools.convert_weights.verify import verify
from whisfusion_jax.audio.read import read_audio
from whisfusion_jax.cli import run
from whisfusion_jax.conversion.convert import convert
from whisfusion_jax.conversion.memory import add_memory
from whisfusion_jax.errors import AudioError, ConversionError
from whisfusion_jax.progress import progress_bar

Positional = tyro.conf.Positional


def convert_weights(
    source: Annotated[Path, Positional],
    bundle: Annotated[Path, Positional],
    /,
    dtype: Literal["keep", "float32", "float16", "bfloat16"] = "keep",
    tokenizer: Path | None = None,
    memory_from: Path | None = None,
    verify_outputs: Annotated[bool, tyro.conf.arg(name="verify")] = False,
) -> int:
    """Convert a Whisper, Canary or Parakeet checkpoint to a bundle, tensor by tensor.

    SOURCE is a Whisper's Hugging Face directory (safetensors), CTranslate2 directory (as faster-
    whisper keeps it) or OpenAI .pt file, or a Canary's or Parakeet's Hugging Face directory or
    .nemo archive (OpenAI's and NeMo's files need torch, the extra parity). If any tensor is
    missing, unexpected or of the wrong shape, all of them are named and nothing is written.

    Args:
        source: The checkpoint.
        bundle: The bundle's directory, new.
        dtype: What to store the weights in; keep leaves each as it is.
        tokenizer: A tokenizer.json; without it the one beside the weights is taken.
        memory_from: Also make a padding memory, from the recordings in this directory; Canary
            and Parakeet, which hear no padding, need none.
        verify_outputs: Compare a Whisper's states and logits with transformers afterwards.
    """
    clips = _recordings(memory_from) if memory_from else []
    with progress_bar() as progress:
        task = progress.add_task("converting", total=None)
        made = convert(
            source,
            bundle,
            dtype=None if dtype == "keep" else jnp.dtype(dtype),
            tokenizer=tokenizer,
            on_tensor=lambda _, total: progress.update(task, total=total, advance=1),
        )
    print(f"{bundle}: {made.config.model}")
    if clips:
        made = add_memory(made, clips)
        print(f"padding memory from {len(clips)} recordings")
    if verify_outputs:
        for name, difference in verify(made, source):
            print(f"largest difference of {name} from transformers: {difference:.2e}")
    return 0


def _recordings(folder: Path) -> list:
    """Every readable recording of a directory."""
    if not folder.is_dir():
        raise ConversionError(f"{folder}: no such directory")
    clips = []
    for file in track(sorted(folder.iterdir()), description="reading", transient=True):
        try:
            clips.append(read_audio(file))
        except AudioError:
            continue  # licences and lists lie beside recordings
    if not clips:
        raise ConversionError(f"{folder}: holds no recording")
    return clips


if __name__ == "__main__":
    run(lambda: tyro.cli(convert_weights, prog="python -m tools.convert_weights"))
