"""Greedy text on a set of real recordings: against transformers, and beside faster-whisper.

python -m benchmarks.accuracy --manifest SET/manifest.jsonl --bundle tiny.en

All read the same windows (recordings above 30 s are cut once), in float32, without timestamps.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.common import (
    SAMPLES,
    faster_whisper_directory,
    load_clips,
    open_bundle,
    transformers_generate,
)
from tools.convert_weights.verify import reference
from whisfusion_jax.audio.cutting import cut_windows
from whisfusion_jax.audio.windows import WINDOW_SECONDS
from whisfusion_jax.bundle import Bundle
from whisfusion_jax.data.manifest import Utterance
from whisfusion_jax.evaluation.error_rates import NONE, bootstrap_interval, word_errors
from whisfusion_jax.text.normalise import normaliser_for
from whisfusion_jax.transcription.transcriber import Transcriber

Texts = dict[str, list[str]]
"""By contender: an utterance's text each."""


def transformers_tokens(bundle: Bundle, model: Any, samples: np.ndarray) -> list[int]:
    """The text tokens that transformers writes for one window, greedily."""
    from transformers import WhisperFeatureExtractor

    end = bundle.tokenizer.end
    extract = WhisperFeatureExtractor(feature_size=bundle.config.model.mel_bins)
    features = extract(samples, sampling_rate=16_000, return_tensors="pt").input_features
    written = transformers_generate(bundle, model, input_features=features)[0].tolist()
    return written[: written.index(end)] if end in written else written


def main(manifest: Path = SAMPLES, bundle: str = "tiny.en") -> None:
    """Compare texts and error rates.

    Args:
        manifest: The recordings and what is said.
        bundle: A bundle's directory, or published weights by name.
    """
    from faster_whisper import WhisperModel

    opened = open_bundle(bundle)
    clips = load_clips(manifest)
    recordings = [samples for _, samples in clips]
    windows = [[part for _, part in cut_windows([x], WINDOW_SECONDS)] for x in recordings]
    padded = Transcriber(opened, language="en", buckets=(30,))
    memory = Transcriber(opened, language="en")
    model = reference(opened)
    with tempfile.TemporaryDirectory() as folder:
        directory = str(faster_whisper_directory(opened, Path(folder)))
        faster = WhisperModel(directory, device="cpu", compute_type="float32", cpu_threads=2)

    def by_transformers(window: np.ndarray) -> str:
        return opened.tokenizer.decode(transformers_tokens(opened, model, window)).strip()

    def by_faster_whisper(window: np.ndarray) -> str:
        segments, _ = faster.transcribe(
            window, language="en", beam_size=1, temperature=0, without_timestamps=True,
            condition_on_previous_text=False,
        )  # fmt: skip
        return " ".join(segment.text.strip() for segment in segments)

    def joined(name: str, recognise: Any) -> list[str]:
        return [
            " ".join(text for window in each if (text := recognise(window)))
            for each in track(windows, description=name, transient=True)
        ]

    samples = [samples for _, samples in clips]
    texts = {
        "transformers float32": joined("transformers", by_transformers),
        "ours, 30 s": [r.text for r in padded.transcribe_many(samples)],  # type: ignore[union-attr]
        "ours, padding memory": [r.text for r in memory.transcribe_many(samples)],  # type: ignore[union-attr]
        "faster-whisper float32": joined("faster-whisper", by_faster_whisper),
    }
    _print(f"{bundle}, {len(clips)} recordings", [utterance for utterance, _ in clips], texts)


def _print(title: str, utterances: Sequence[Utterance], texts: Texts) -> None:
    table = Table(title=title)
    for column in ("", "WER %", "95 % interval", "same text as transformers", "normalised"):
        table.add_column(column, justify="right" if column else "left")
    normalise = normaliser_for("en")
    expected = next(iter(texts.values()))
    for name, hypotheses in texts.items():
        errors = [
            word_errors(normalise(utterance.text), normalise(text))
            for utterance, text in zip(utterances, hypotheses, strict=True)
        ]
        low, high = bootstrap_interval(errors)
        pairs = list(zip(hypotheses, expected, strict=True))
        table.add_row(
            name,
            f"{100 * sum(errors, NONE).rate:.2f}",
            f"{100 * low:.2f} to {100 * high:.2f}",
            f"{sum(a == b for a, b in pairs)} of {len(pairs)}",
            f"{sum(normalise(a) == normalise(b) for a, b in pairs)} of {len(pairs)}",
        )
    Console().print(table)


if __name__ == "__main__":
    tyro.cli(main)
