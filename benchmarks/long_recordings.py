"""Utterances joined with pauses: errors by window and decoder, where words are, and silence.

python -m benchmarks.long_recordings windows --manifest SET/manifest.jsonl
python -m benchmarks.long_recordings times --manifest SET/manifest.jsonl
python -m benchmarks.long_recordings boundaries --sentences en.txt
python -m benchmarks.long_recordings silence
"""

import dataclasses
import json
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import jiwer
import numpy as np
import tyro
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.common import SAMPLES, load_clips
from whisfusion_jax.audio.arrays import SAMPLE_RATE
from whisfusion_jax.audio.read import read_audio
from whisfusion_jax.audio.voice import MOMENT, speech_probabilities
from whisfusion_jax.data.manifest import read_manifest
from whisfusion_jax.data.sources import wordless
from whisfusion_jax.text.normalise import normaliser_for
from whisfusion_jax.transcription.decoders import DecoderName
from whisfusion_jax.transcription.transcriber import Transcriber
from whisfusion_jax.transcription.transcript import Transcript
from whisfusion_jax.transcription.words import Word


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
    unbroken: bool = False
    """Take all pauses out, within utterances, too, so that every cut is in speech."""
    seed: int = 0

    def joined(self) -> Joined:
        random = np.random.default_rng(self.seed)
        clips = load_clips(self.manifest)
        chosen = [clips[i] for i in random.permutation(len(clips))[: self.count]]
        longest = 0.0 if self.unbroken else self.longest_pause
        if self.unbroken:
            chosen = [(utterance, _unbroken(samples)) for utterance, samples in chosen]
        parts: list[np.ndarray] = []
        places, at = [], 0
        for _, samples in chosen:
            pause = int(random.uniform(0, longest) * SAMPLE_RATE)
            parts += [(1e-3 * random.normal(size=pause)).astype(np.float32), samples]
            at += pause + len(samples)
            places.append(((at - len(samples)) / SAMPLE_RATE, at / SAMPLE_RATE))
        clean = normaliser_for("en")
        texts = [clean(utterance.text) for utterance, _ in chosen]
        return Joined([samples for _, samples in chosen], texts, np.concatenate(parts), places)


def _unbroken(samples: np.ndarray) -> np.ndarray:
    """What voice activity takes for speech."""
    kept = []
    for piece, probabilities in speech_probabilities([samples]):
        moments = [piece[at : at + MOMENT] for at in range(0, len(piece), MOMENT)]
        kept += [
            moment
            for moment, probability in zip(moments, probabilities.tolist(), strict=True)
            if probability >= 0.5
        ]
    return np.concatenate(kept) if kept else samples


Drawn = Annotated[Draw, tyro.conf.OmitArgPrefixes]


def windows(
    draw: Drawn,
    bundle: str = "tiny.en",
    decoders: tuple[DecoderName, ...] = ("ar", "exact", "diffusion"),
    windows: tuple[float, ...] = (5.5, 9.5, 14.5, 19.5, 29.5),
    draws: int = 1,
    picture: Path | None = None,
) -> None:
    """Word error rate and speed by window and decoder, against the utterances one by one.

    Args:
        draw: The first of the recordings.
        bundle: A Whisper with a denoiser.
        decoders: Which.
        windows: Seconds.
        draws: Recordings, of as many seeds, whose words are counted together.
        picture: Draw error rate against speed there.
    """
    recordings = [dataclasses.replace(draw, seed=draw.seed + i).joined() for i in range(draws)]
    seconds = sum(len(each.samples) for each in recordings) / SAMPLE_RATE
    said = [text for each in recordings for text in each.texts]
    table = Table(title=f"{bundle}, {len(said)} utterances, {seconds:.0f} s with pauses")
    for column in ("decoder", "window s", "WER %", "deleted", "inserted", "windows", "RTFx"):
        table.add_column(column, justify="right")
    clean = normaliser_for("en")
    curves: dict[str, list[tuple[float, float, float]]] = {}
    for decoder in decoders:
        alone = Transcriber.from_bundle(bundle, decoder=decoder, language="en")
        clips = [clip for each in recordings for clip in each.clips]
        texts = [clean(alone.transcribe(clip).text) for clip in clips]
        rate, *counts = _errors(said, texts)
        table.add_row(decoder, "one by one", f"{rate:.2f}", *map(str, counts))
        for window in windows:
            transcriber = Transcriber.from_bundle(
                bundle, decoder=decoder, language="en", window=window
            )
            found = [transcriber.transcribe(each.samples) for each in recordings]  # compiles
            begin = time.perf_counter()
            for each in recordings:
                transcriber.transcribe(each.samples)
            speed = seconds / (time.perf_counter() - begin)
            rate, *counts = _errors(
                [" ".join(each.texts) for each in recordings], [clean(each.text) for each in found]
            )
            curves.setdefault(decoder, []).append((window, speed, rate))
            cut = sum(len(each.segments) for each in found)
            row = (f"{rate:.2f}", *map(str, counts), str(cut), f"{speed:.1f}")
            table.add_row(decoder, f"{window:g}", *row)
    Console().print(table)
    if picture is not None:
        _draw_windows(picture, bundle, curves)


def _draw_windows(
    picture: Path, title: str, curves: dict[str, list[tuple[float, float, float]]]
) -> None:
    """Each decoder's error rate and speed against the window's length."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.6), layout="constrained")
    errors, speeds = figure.subplots(1, 2)
    for decoder, points in curves.items():
        windows, speed, rate = zip(*points, strict=True)
        errors.plot(windows, rate, "o-", label=decoder)
        speeds.plot(windows, speed, "o-", label=decoder)
    errors.set(title=title, xlabel="window, s", ylabel="word error rate, %", ylim=0)
    speeds.set(xlabel="window, s", ylabel="seconds of audio a second", ylim=0)
    for axes in (errors, speeds):
        axes.legend()
        axes.grid(alpha=0.3)
    figure.savefig(picture, dpi=120)


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


def boundaries(
    sentences: Path | None = None,
    count: int = 100,
    voices: tuple[str, ...] = ("cmu_us_slt_arctic_hts", "kal_diphone"),
    bundle: str = "tiny.en",
    decoders: tuple[DecoderName, ...] = ("ar", "diffusion"),
) -> None:
    """How far words' times are from those that a synthesizer tells (festival's).

    Args:
        sentences: A text file, a sentence a line; without it the samples' texts.
        count: Sentences, each by one of the voices in turn.
        voices: Festival's, as Debian has them (festvox-us-slt-hts, festvox-kallpc16k).
    """
    lines = (
        sentences.read_text(encoding="utf-8").splitlines()
        if sentences
        else [utterance.text for utterance in read_manifest(SAMPLES)]
    )
    # A number is one word there and several here.
    plain = [line for line in lines if line.isascii() and not any(map(str.isdigit, line))][:count]
    spoken = [
        _synthesized(line, voices[number % len(voices)])
        for number, line in enumerate(track(plain, description="speaking", transient=True))
    ]
    table = Table(title=f"{bundle}, {len(plain)} made sentences, seconds that words are off")
    for column in ("decoder", "words", "which", "median", "95 %", "most", "late, median"):
        table.add_column(column, justify="right")
    for decoder in decoders:
        transcriber = Transcriber.from_bundle(
            bundle, decoder=decoder, language="en", word_times=True
        )
        starts, ends = list[float](), list[float]()
        for (_, marks), found in zip(
            spoken, transcriber.transcribe_many([samples for samples, _ in spoken]), strict=True
        ):
            assert isinstance(found, Transcript)
            for ours, theirs in _pairs(found, [word for word, _, _ in marks]):
                assert ours.start is not None
                assert ours.end is not None
                _, begin, end = marks[theirs]
                starts.append(ours.start - begin)
                ends.append(ours.end - end)
        for which, late in (("starts", starts), ("ends", ends)):
            off = np.abs(late)
            table.add_row(
                decoder, str(len(late)), which, f"{np.median(off):.3f}",
                f"{np.quantile(off, 0.95):.3f}", f"{off.max():.2f}", f"{np.median(late):+.3f}",
            )  # fmt: skip
    Console().print(table)


def silence(
    bundle: str = "tiny.en",
    decoders: tuple[DecoderName, ...] = ("ar", "exact", "diffusion"),
    count: int = 50,
    seconds: float = 75,
) -> None:
    """Whether there is text where nobody speaks for long between two utterances.

    Args:
        count: Recordings, in turn with silence, white and pink noise, and tones like music.
        seconds: Between the utterances.
    """
    kinds = ("silence", "white", "pink", "tones")
    random = np.random.default_rng(0)
    (_, first), (_, last) = load_clips(SAMPLES)[:2]
    recordings, places = [], []
    for number in range(count):
        sound = wordless(kinds[number % len(kinds)], seconds, random)
        recordings.append(np.concatenate([first, sound, last]))
        places.append((len(first) / SAMPLE_RATE, len(first) / SAMPLE_RATE + seconds))
    for decoder in decoders:
        transcriber = Transcriber.from_bundle(bundle, decoder=decoder, language="en")
        results = transcriber.transcribe_many(recordings)
        quiet = 0
        for (begin, end), found in zip(places, results, strict=True):
            assert isinstance(found, Transcript)
            # Speech keeps up to a second of what is around it.
            inside = [s for s in found.segments if s.end > begin + 1 and s.start < end - 1]
            quiet += not any(segment.text for segment in inside)
        print(f"{decoder}: no text in {quiet} of {count} times {seconds:g} s without speech")


def _synthesized(text: str, voice: str) -> tuple[np.ndarray, list[tuple[str, float, float]]]:
    """A sentence's samples, and its words with their first and last second."""
    quoted = json.dumps(text)
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "say.scm"
        script.write_text(
            f"(voice_{voice})\n(set! u (SynthText {quoted}))\n"
            f'(utt.save.wave u "{folder}/a.wav")\n(utt.save.words u "{folder}/words")\n'
            f'(utt.save.segs u "{folder}/sounds")\n'
        )
        subprocess.run(["festival", "-b", str(script)], check=True, capture_output=True)
        samples = read_audio(f"{folder}/a.wav")
        words = _labels(Path(folder) / "words")
        sounds = _labels(Path(folder) / "sounds")
    pauses = {round(end, 3): begin for begin, end, name in sounds if name == "pau"}
    begins = {round(begin, 3): end for begin, end, name in sounds if name == "pau"}
    found = []
    for begin, end, word in words:
        # A pause belongs to no word.
        first = begins.get(round(begin, 3), begin)
        found.append((word, first, pauses.get(round(end, 3), end)))
    return samples, found


def _labels(path: Path) -> list[tuple[float, float, str]]:
    """Festival's labels: where each begins and ends, and its name."""
    rows = [line.split() for line in path.read_text().partition("#")[2].split("\n") if line.strip()]
    ends = [float(row[0]) for row in rows]
    return [(begin, end, row[2]) for begin, end, row in zip([0.0, *ends], ends, rows, strict=False)]


def _pairs(found: Transcript, words: Sequence[str]) -> list[tuple[Word, int]]:
    """Words that are right, with their numbers in what was said."""
    clean = normaliser_for("en")
    ours = [(each, word) for word in found.words for each in clean(word.text).split()]
    theirs = [(each, number) for number, word in enumerate(words) for each in clean(word).split()]
    if not ours:
        return []
    output = jiwer.process_words(
        " ".join(each for each, _ in theirs), " ".join(each for each, _ in ours)
    )
    pairs = []
    for chunk in output.alignments[0]:
        if chunk.type == "equal":
            for place in range(chunk.hyp_end_idx - chunk.hyp_start_idx):
                right = ours[chunk.hyp_start_idx + place][1]
                pairs.append((right, theirs[chunk.ref_start_idx + place][1]))
    return pairs


def _errors(expected: Sequence[str], found: Sequence[str]) -> tuple[float, int, int]:
    """Word error rate in percent, deleted and inserted words."""
    output = jiwer.process_words(list(expected), list(found))
    return 100 * output.wer, output.deletions, output.insertions


def _outside(joined: Joined, found: Transcript) -> list[float]:
    """Of each word that is right, the seconds by which it is outside of its utterance."""
    words = [(word, number) for number, text in enumerate(joined.texts) for word in text.split()]
    outside = []
    for word, place in _pairs(found, [each for each, _ in words]):
        begin, end = joined.places[words[place][1]]
        assert word.start is not None
        assert word.end is not None
        outside.append(max(begin - word.start, word.end - end, 0.0))
    return outside


if __name__ == "__main__":
    tyro.extras.subcommand_cli_from_dict(
        {"windows": windows, "times": times, "boundaries": boundaries, "silence": silence}
    )
