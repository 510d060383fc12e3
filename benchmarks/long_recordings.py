"""Utterances joined with pauses: errors by window and decoder, and where words are.

python -m benchmarks.long_recordings windows --manifest SET/manifest.jsonl
python -m benchmarks.long_recordings times --manifest SET/manifest.jsonl
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import jiwer
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from benchmarks.common import SAMPLES, load_clips
from whisfusion_jax.audio.mel import SAMPLE_RATE
from whisfusion_jax.text.normalise import normaliser_for
from whisfusion_jax.transcription.decoders import DecoderName
from whisfusion_jax.transcription.transcriber import Transcriber
from whisfusion_jax.transcription.transcript import Transcript


@dataclass(frozen=True)
class Joined:
    """Utterances one after the other, quiet noise between."""

    clips: list[np.ndarray]
    texts: list[str]
    samples: np.ndarray
    places: list[tuple[float, float]]
    """Seconds between which each is."""


@dataclass(frozen=True)
class Draw:
    """Some of a manifest's utterances, in random order."""

    manifest: Path = SAMPLES
    """The utterances."""
    count: int = 40
    """How many are joined."""
    longest_pause: float = 3.0
    """Seconds; pauses are between none and this."""
    seed: int = 0

    def joined(self) -> Joined:
        random = np.random.default_rng(self.seed)
        clips = load_clips(self.manifest)
        chosen = [clips[i] for i in random.permutation(len(clips))[: self.count]]
        parts: list[np.ndarray] = []
        places, at = [], 0
        for _, samples in chosen:
            pause = int(random.uniform(0, self.longest_pause) * SAMPLE_RATE)
            parts += [(1e-3 * random.normal(size=pause)).astype(np.float32), samples]
            at += pause + len(samples)
            places.append(((at - len(samples)) / SAMPLE_RATE, at / SAMPLE_RATE))
        clean = normaliser_for("en")
        texts = [clean(utterance.text) for utterance, _ in chosen]
        return Joined([samples for _, samples in chosen], texts, np.concatenate(parts), places)


Drawn = Annotated[Draw, tyro.conf.OmitArgPrefixes]


def windows(
    draw: Drawn,
    bundle: str = "tiny.en",
    decoders: tuple[DecoderName, ...] = ("ar", "exact", "diffusion"),
    windows: tuple[float, ...] = (5.5, 9.5, 14.5, 19.5, 29.5),
) -> None:
    """Word error rate and speed by window and decoder, against the utterances one by one."""
    joined = draw.joined()
    seconds = len(joined.samples) / SAMPLE_RATE
    table = Table(title=f"{bundle}, {draw.count} utterances, {seconds:.0f} s with pauses")
    for column in ("decoder", "window s", "WER %", "deleted", "inserted", "windows", "RTFx"):
        table.add_column(column, justify="right")
    clean = normaliser_for("en")
    for decoder in decoders:
        alone = Transcriber.from_bundle(bundle, decoder=decoder, language="en")
        texts = [clean(alone.transcribe(clip).text) for clip in joined.clips]
        table.add_row(decoder, "one by one", *_errors(joined.texts, texts))
        for window in windows:
            transcriber = Transcriber.from_bundle(
                bundle, decoder=decoder, language="en", window=window
            )
            found = transcriber.transcribe(joined.samples)  # compiles
            begin = time.perf_counter()
            transcriber.transcribe(joined.samples)
            took = time.perf_counter() - begin
            errors = _errors([" ".join(joined.texts)], [clean(found.text)])
            speed = f"{seconds / took:.1f}"
            table.add_row(decoder, f"{window:g}", *errors, str(len(found.segments)), speed)
    Console().print(table)


def times(
    draw: Drawn,
    bundle: str = "tiny.en",
    decoders: tuple[DecoderName, ...] = ("ar", "diffusion"),
    window: float | None = None,
) -> None:
    """How far words lie outside of the utterance that they belong to."""
    joined = draw.joined()
    table = Table(title=f"{bundle}, words of {draw.count} utterances joined")
    for column in ("decoder", "words", "outside by > 0.1 s", "> 0.3 s", "furthest s"):
        table.add_column(column, justify="right")
    for decoder in decoders:
        transcriber = Transcriber.from_bundle(
            bundle, decoder=decoder, language="en", window=window, word_times=True
        )
        outside = _outside(joined, transcriber.transcribe(joined.samples))
        counts = [str(sum(by > limit for by in outside)) for limit in (0.1, 0.3)]
        table.add_row(decoder, str(len(outside)), *counts, f"{max(outside):.2f}")
    Console().print(table)


def _errors(expected: Sequence[str], found: Sequence[str]) -> list[str]:
    output = jiwer.process_words(list(expected), list(found))
    return [f"{100 * output.wer:.2f}", str(output.deletions), str(output.insertions)]


def _outside(joined: Joined, found: Transcript) -> list[float]:
    """Of each word that is right, the seconds by which it is outside of its utterance."""
    clean = normaliser_for("en")
    # A word may be several when written out, or none.
    words = [(each, word) for word in found.words for each in clean(word.text).split()]
    belongs = [number for number, text in enumerate(joined.texts) for _ in text.split()]
    hypothesis = " ".join(each for each, _ in words)
    output = jiwer.process_words(" ".join(joined.texts), hypothesis)
    outside = []
    for chunk in output.alignments[0]:
        if chunk.type != "equal":
            continue
        for ours, theirs in zip(
            range(chunk.hyp_start_idx, chunk.hyp_end_idx),
            range(chunk.ref_start_idx, chunk.ref_end_idx),
            strict=True,
        ):
            word, (begin, end) = words[ours][1], joined.places[belongs[theirs]]
            assert word.start is not None
            assert word.end is not None
            outside.append(max(begin - word.start, word.end - end, 0.0))
    return outside


if __name__ == "__main__":
    tyro.extras.subcommand_cli_from_dict({"windows": windows, "times": times})
