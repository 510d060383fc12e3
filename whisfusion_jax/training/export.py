"""A trained denoiser as a bundle to transcribe with."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import jax
import numpy as np
from etils import epath
from flax import nnx
from jax.experimental import multihost_utils

from whisfusion_jax.bundle import Bundle, named_variables, write_bundle
from whisfusion_jax.config import CtcConfig, DenoiserConfig
from whisfusion_jax.models.ctc import CtcHead
from whisfusion_jax.models.denoiser import Denoiser
from whisfusion_jax.models.stack import unstacked
from whisfusion_jax.parallel.sharding import gathered
from whisfusion_jax.places import in_bucket, replace
from whisfusion_jax.storage import Tensor, in_eight_bits
from whisfusion_jax.text.shortlist import Shortlist


def export_head(whisper: Bundle, head: CtcHead, config: CtcConfig, path: epath.PathLike) -> Bundle:
    """Write a CTC head alone in eight bits a weight: what drafts for a Whisper that lies elsewhere.

    Args:
        whisper: what the head was trained on.
        path: a directory; a bundle that is there is replaced.
    """
    learned = _gathered(head)
    if jax.process_index() == 0:
        settings = dataclasses.replace(
            whisper.config,
            ctc=config,
            denoiser=None,
            memory=None,
            source=f"a CTC head on {whisper.config.source}; trained by whisfusion_jax",
        )
        tensors = _narrow("ctc", learned)
        _replace(
            path, lambda made: write_bundle(made, settings, _tokenizer(whisper), tensors, True)
        )
    multihost_utils.sync_global_devices("bundle written")
    return Bundle.open(path)


def export_bundle(
    whisper: Bundle,
    denoiser: Denoiser,
    config: DenoiserConfig,
    shortlist: Shortlist,
    path: epath.PathLike,
    head: tuple[CtcHead, CtcConfig] | None = None,
) -> Bundle:
    """Write the encoder, padding memory and denoiser in eight bits a weight.

    Whisper's decoder is left out. Of many processes all must call; the first one writes.

    Args:
        whisper: what the denoiser was trained on.
        path: a directory; a bundle that is there is replaced.
        head: a CTC head, to be written beside it.
    """
    learned = _gathered(denoiser)
    if jax.process_index() == 0:
        encoder = _gathered(whisper.load_encoder())
        tensors = {
            "shortlist.tokens": Tensor.of(shortlist.tokens),
            **_narrow("encoder", encoder),
            **_narrow("denoiser", learned),
            **(_narrow("ctc", _gathered(head[0])) if head else {}),
        }
        settings = dataclasses.replace(
            whisper.config,
            denoiser=config,
            ctc=head and head[1],
            memory=None,
            source=f"{whisper.config.source}; denoiser trained by whisfusion_jax",
        )
        memory = whisper.load_memory()

        def write(made: Path) -> None:
            bundle = write_bundle(made, settings, _tokenizer(whisper), tensors, packed=True)
            if memory is not None:
                bundle.with_memory(memory)

        _replace(path, write)
    multihost_utils.sync_global_devices("bundle written")
    return Bundle.open(path)


def _gathered(model: nnx.Module) -> dict[str, np.ndarray]:
    """All parameters by name, from wherever they lie."""
    whole = unstacked(nnx.clone(model)) if hasattr(model, "blocks") else model
    variables = named_variables(nnx.state(whole))
    return {name: gathered(variable[...]) for name, variable in variables.items()}


def _narrow(part: str, arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for name, array in arrays.items():
        wide = array if array.dtype.kind == "i" else array.astype(np.float32)
        tensors |= in_eight_bits(f"{part}.{name}", wide)
    return tensors


def _tokenizer(whisper: Bundle) -> str:
    return (whisper.path / "tokenizer.json").read_text()


def _replace(path: epath.PathLike, write: Callable[[Path], object]) -> None:
    """Put what is written aside in a directory's place."""
    beside = None
    if not in_bucket(path):
        beside = Path(path).parent
        beside.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=beside, prefix=f".{Path(path).name}.partial-") as work:
        made = Path(work) / "bundle"
        write(made)
        replace(path, made, last="config.json")
