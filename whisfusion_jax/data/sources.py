"""Speech to learn from, by number: every source is a sequence of examples, the same each time."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import soxr
import tensorflow_datasets as tfds

from whisfusion_jax.audio.arrays import SAMPLE_RATE, check_samples
from whisfusion_jax.audio.read import read_audio
from whisfusion_jax.data.augment import augment
from whisfusion_jax.data.manifest import read_manifest
from whisfusion_jax.errors import AudioError, WhisfusionError

LONGEST_SECONDS = 29.5
"""Of an example: Whisper's window, less the silence that it ends with."""

_TEXT_FEATURES = ("text", "transcript", "transcription", "sentence")
_AUDIO_FEATURES = ("audio", "speech")


@dataclass(frozen=True)
class Example:
    """An utterance and what is said in it."""

    samples: np.ndarray
    """[samples] float32 in [-1, 1] at 16 kHz."""
    text: str
    """Empty where nobody speaks."""
    language: str = "en"


class Source(Protocol):
    """A sequence of examples."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int, /) -> Example: ...


class Prepared:
    """A split of a prepared TFDS set in `array_record`: ours, or any with audio and text."""

    def __init__(self, directory: str | Path, split: str = "train") -> None:
        """Open the set in a directory such as `DATA/synthetic_speech/en_0/1.0.0`.

        Raises:
            WhisfusionError: there is no such set or split, or it has no audio and text.
        """
        try:
            builder = tfds.builder_from_directory(directory)
            self._rows = builder.as_data_source(split=split)
        # TFDS says by NotImplementedError that a set is no array_record.
        except (OSError, ValueError, NotImplementedError, AssertionError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise WhisfusionError(f"{directory}, split {split}: {reason}") from None
        self._directory = directory
        features = builder.info.features
        self._audio = _first_of(_AUDIO_FEATURES, features, directory)
        self._text = _first_of(_TEXT_FEATURES, features, directory)
        self._rate = getattr(features[self._audio], "sample_rate", None) or SAMPLE_RATE

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, number: int, /) -> Example:
        """Read an example.

        Raises:
            AudioError: it is damaged, or has no samples.
        """
        try:
            row = self._rows[number]
            audio = np.asarray(row[self._audio])
            text, language = _text(row[self._text]), _text(row.get("language", "en"))
        except Exception as error:  # whatever the reader of array_record says
            reason = str(error).strip().partition("\n")[0]
            raise AudioError(f"{self._directory}, example {number}: {reason}") from None
        samples = audio.astype(np.float32) / (32768 if audio.dtype.kind == "i" else 1)
        samples = check_samples(samples, f"{self._directory}, example {number}")
        if self._rate != SAMPLE_RATE:
            samples = soxr.resample(samples, self._rate, SAMPLE_RATE).astype(np.float32)
        return Example(samples, text, language)


class Listed:
    """Recordings that a manifest lists; they need no texts where Whisper's own is learned."""

    def __init__(self, manifest: Path) -> None:
        """Open a manifest (`data/manifest.py`).

        Raises:
            WhisfusionError: it can't be read.
        """
        self._utterances = read_manifest(manifest, texts=False)

    def __len__(self) -> int:
        return len(self._utterances)

    def __getitem__(self, number: int, /) -> Example:
        """Read an example.

        Raises:
            AudioError: it can't be read.
        """
        utterance = self._utterances[number]
        samples = read_audio(utterance.audio)
        return Example(samples, utterance.text, utterance.language or "en")


def _first_of(names: Sequence[str], features: Any, directory: str | Path) -> str:
    for name in names:
        if name in features:
            return name
    raise WhisfusionError(
        f"{directory}: has no feature named {' or '.join(names)} (but {', '.join(features)})"
    )


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


@dataclass(frozen=True)
class Together:
    """Several sources, one after the other."""

    sources: tuple[Source, ...]

    def __len__(self) -> int:
        return sum(map(len, self.sources))

    def __getitem__(self, number: int, /) -> Example:
        for source in self.sources:
            if number < len(source):
                return source[number]
            number -= len(source)
        raise IndexError(number)


@dataclass(frozen=True)
class Joined:
    """Several examples of one language in a row, with pauses: longer speech than single sentences.

    All from near by, where others of their set are: most are of the same language.
    """

    source: Source
    count: int
    seed: int = 0
    most: int = 9
    """Examples in one."""
    near: int = 100
    """How far away in the source they may be from the first one."""

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int, /) -> Example:
        draw = np.random.default_rng([self.seed, number])
        wanted = int(draw.integers(2, self.most + 1))
        samples, texts = np.zeros(0, np.float32), list[str]()
        first = draw.integers(len(self.source))
        others = first + draw.integers(-self.near, self.near + 1, size=wanted - 1)
        language = self.source[int(first)].language
        for index in (first, *others):
            part = self.source[int(index) % len(self.source)]
            if part.language != language:
                continue
            pause = np.zeros(int(draw.uniform(0.1, 0.7) * SAMPLE_RATE) if texts else 0, np.float32)
            longer = np.concatenate([samples, pause, part.samples])
            if texts and len(longer) > LONGEST_SECONDS * SAMPLE_RATE:
                break
            samples = longer
            texts.append(part.text)
        return Example(samples, " ".join(texts), language)


@dataclass(frozen=True)
class Wordless:
    """Silence, noise and tones of half a second to six, with empty text."""

    count: int
    seed: int = 0

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int, /) -> Example:
        draw = np.random.default_rng([self.seed, number])
        seconds = draw.uniform(0.5, 6)
        kind = ("silence", "white", "pink", "tones")[number % 4]
        return Example(wordless(kind, seconds, draw), "")


def wordless(kind: str, seconds: float, draw: np.random.Generator) -> np.ndarray:
    """A sound without words: `silence`, `white` or `pink` noise, or music-like `tones`.

    Returns:
        [samples] float32 at 16 kHz, of random loudness.
    """
    n = int(seconds * SAMPLE_RATE)
    loudness = 10 ** draw.uniform(-2.5, -0.3)
    if kind == "silence":
        return np.zeros(n, np.float32)
    if kind == "tones":
        sound = np.zeros(n)
        begin = 0
        while begin < n:
            length = min(int(draw.uniform(0.15, 1.5) * SAMPLE_RATE), n - begin)
            t = np.arange(length) / SAMPLE_RATE
            note = 110 * 2 ** (draw.integers(0, 36) / 12)
            chord = draw.choice([0, 4, 7, 12], size=draw.integers(1, 4), replace=False)
            fading = np.exp(-t * draw.uniform(0, 4))
            for step in chord:
                sound[begin : begin + length] += fading * np.sin(
                    2 * np.pi * note * 2 ** (step / 12) * t
                )
            begin += length
    else:
        spectrum = np.fft.rfft(draw.normal(size=n))
        if kind == "pink":
            spectrum /= np.sqrt(np.maximum(np.arange(len(spectrum)), 1))
        sound = np.fft.irfft(spectrum, n)
    return (loudness * sound / np.abs(sound).max()).astype(np.float32)


@dataclass(frozen=True)
class Augmented:
    """A source with some of its examples made harder to hear."""

    source: Source
    share: float = 0.5
    seed: int = 0

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, number: int, /) -> Example:
        draw = np.random.default_rng([self.seed, number])
        example = self.source[number]
        if draw.random() >= self.share:
            return example
        babble = self.source[int(draw.integers(len(self.source)))].samples
        return Example(augment(example.samples, babble, draw), example.text, example.language)
