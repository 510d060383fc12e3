"""What the benchmarks share: clips, alternating rounds, tables."""

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from whisfusion_jax.audio.read import read_audio
from whisfusion_jax.bundle import Bundle
from whisfusion_jax.data.manifest import Utterance, read_manifest
from whisfusion_jax.hub import find_bundle

PIECE = 9.5
"""Seconds of the windows on which decoders alone are held against each other."""

PIECE = 9.5
"""Seconds of the windows on which decoders alone are held against each other."""
SAMPLES = Path(__file__).parent.parent / "samples" / "manifest.jsonl"
ROUNDS = 5


def load_clips(
    manifest: Path, shortest: float = 0, longest: float = 1e9, count: int | None = None
) -> list[tuple[Utterance, np.ndarray]]:
    """Utterances of a manifest within a range of seconds, with their samples."""
    clips = []
    for utterance in track(read_manifest(manifest), description="reading", transient=True):
        samples = read_audio(utterance.audio)
        if shortest <= len(samples) / 16_000 <= longest:
            clips.append((utterance, samples))
    return clips[:count]


def alternate(
    contenders: Mapping[str, Callable[[], object]], rounds: int = ROUNDS
) -> dict[str, list[float]]:
    """Time contenders in turn, A B C A B C, after one round that isn't counted: seconds each."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for counted in track([False] + [True] * rounds, description="timing", transient=True):
        for name, run in contenders.items():
            begin = time.perf_counter()
            run()
            if counted:
                times[name].append(time.perf_counter() - begin)
    return times


def timing_table(
    title: str,
    times: Mapping[str, Sequence[float]],
    against: str,
    audio_seconds: float = 0,
    errors: Mapping[str, float] | None = None,
) -> Table:
    """Medians, each round's ratio to one contender with its spread, and perhaps error rates."""
    table = Table(title=title)
    columns = ["", "median s", f"times as fast as {against}", "lowest to highest"]
    columns += ["RTFx"] * bool(audio_seconds) + ["WER %"] * bool(errors)
    for column in columns:
        table.add_column(column, justify="right" if column else "left")
    for name, seconds in times.items():
        ratios = [other / own for other, own in zip(times[against], seconds, strict=True)]
        median = statistics.median(seconds)
        row = [
            name,
            f"{median:.4g}",
            f"{statistics.median(ratios):.2f}",
            f"{min(ratios):.2f} to {max(ratios):.2f}",
        ]
        row += [f"{audio_seconds / median:.1f}"] if audio_seconds else []
        table.add_row(*row, *([f"{errors[name]:.2f}"] if errors else []))
    return table


def faster_whisper_directory(bundle: Bundle, folder: Path) -> Path:
    """The bundle's weights as a CTranslate2 directory, as float16."""
    from flax import nnx

    from tests.checkpoint_writers import write_ctranslate2
    from whisfusion_jax.bundle import named_variables

    state = nnx.state(bundle.load_whisper(np.float16))
    tensors = {name: np.asarray(v[...]) for name, v in named_variables(state).items()}
    text = (bundle.path / "tokenizer.json").read_text()
    return write_ctranslate2(
        folder / "ctranslate2", bundle.config.model, bundle.config.rules, tensors, text
    )


def load_faster_whisper(bundle: Bundle, kind: str) -> Any:
    """faster-whisper's model of the bundle's weights, on two cores.

    Args:
        kind: of its arithmetic, such as int8.
    """
    from faster_whisper import WhisperModel

    with tempfile.TemporaryDirectory() as folder:
        directory = str(faster_whisper_directory(bundle, Path(folder)))
        return WhisperModel(directory, device="cpu", compute_type=kind, cpu_threads=2)


def transformers_generate(bundle: Bundle, model: Any, batch: int = 1, **inputs: Any) -> Any:
    """The tokens that transformers writes greedily after the prompt: [batch, tokens] torch."""
    import torch
    from transformers import GenerationMixin

    tokenizer, rules = bundle.tokenizer, bundle.config.rules
    prompt = tokenizer.prompt("en" if bundle.config.model.multilingual else None)
    with torch.no_grad():
        # Below Whisper's own `generate`, which would want the hub's generation config.
        written = GenerationMixin.generate(
            model,
            **inputs,
            decoder_input_ids=torch.tensor([prompt] * batch),
            decoder_start_token_id=tokenizer.start,
            eos_token_id=tokenizer.end,
            pad_token_id=tokenizer.end,
            max_new_tokens=224,
            suppress_tokens=list(rules.suppress),
            begin_suppress_tokens=list(rules.suppress_first),
        )
    return written[:, len(prompt) :]


def open_bundle(name: str) -> Bundle:
    return Bundle.open(find_bundle(name, Console().print, whole=True))
