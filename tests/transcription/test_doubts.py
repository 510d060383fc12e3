"""Texts that can't be right, and windows that are written again."""

import itertools

import numpy as np
import pytest

from tests.conftest import SAMPLES
from whisfusion_jax.audio.read import read_audio
from whisfusion_jax.audio.windows import Window
from whisfusion_jax.transcription.doubts import (
    better_of,
    doubt_of,
    in_parts,
    nobody_speaks,
    repeats,
    said_once,
)
from whisfusion_jax.transcription.pieces import Again, Piece, Recording
from whisfusion_jax.transcription.transcript import Segment


def segment(text: str, tokens: int, no_speech: float | None = None, sure: float = -0.1) -> Segment:
    return Segment(0, 1, text, tuple(range(tokens)), (), (), (), 1, sure, no_speech)


@pytest.fixture(scope="module")
def spoken() -> np.ndarray:
    """Sentences with short pauses."""
    pause = np.zeros(8000, np.float32)
    clips = [read_audio(path) for path in sorted(SAMPLES.glob("*.flac"))]
    return np.concatenate([part for clip in clips for part in (clip, pause)])


def piece(samples: np.ndarray) -> Piece:
    # Of two stretches of the recording, with two seconds left out between.
    middle = len(samples) // 2
    spans = (100, 100 + middle), (32_100 + middle, 32_100 + len(samples))
    return Piece(Recording(0, "en"), 3, Window(spans), samples, 20)


@pytest.mark.parametrize(
    ("tokens", "count"),
    [
        ((), 0),
        ((1,), 1),
        ((1, 2, 3, 4), 4),
        ((5, 1, 1, 1), 4),
        ((5, 1, 1, 1, 1), 2),
        ((5, 1, 2, 1, 2, 1, 2, 1, 2), 3),
        ((5, 1, 2, 1, 2, 1, 2, 1, 2, 1), 3),
        ((7,) * 200, 1),
        ((1, 1, 1, 1, 5), 5),
    ],
)
def test_what_is_said_over_and_over_is_said_once(tokens: tuple[int, ...], count: int) -> None:
    assert said_once(tokens) == count


def test_a_text_repeats_if_it_can_be_packed_well() -> None:
    assert repeats(segment("you " * 100, 100))
    assert repeats(segment("and then he said to me, " * 20, 100))
    assert not repeats(segment("The quick brown fox jumps over the lazy dog.", 10))
    assert not repeats(segment("", 0))


def test_too_few_words_for_the_speech_are_doubted(spoken: np.ndarray) -> None:
    whole = piece(spoken)
    assert doubt_of(segment("A few words.", 4), whole) == "short"
    assert doubt_of(segment("Many.", 80), whole) is None
    assert doubt_of(segment("you " * 100, 100), whole) == "repeats"
    # Silence needs no words, and little is said in little time.
    assert doubt_of(segment("Two.", 2), piece(np.zeros(20 * 16_000, np.float32))) is None
    assert doubt_of(segment("One.", 1), piece(spoken[:80_000])) is None


def test_a_doubted_window_is_cut_in_its_pauses(spoken: np.ndarray) -> None:
    whole = piece(spoken)
    first = segment("A few words.", 4)
    parts = in_parts(whole, first, "short")
    assert len(parts) > 1
    assert [part.number for part in parts] == list(range(len(parts)))
    spans = [span for part in parts for span in part.window.spans]
    assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(spans))
    assert spans[0][0] >= 100
    assert spans[-1][1] <= whole.window.end
    for part in parts:
        assert part.bucket == whole.bucket
        assert len(part.samples) == sum(end - begin for begin, end in part.window.spans)
        assert len(part.samples) < len(spoken)
        assert part.again is parts[0].again
        assert part.again is not None
        assert part.again.number == whole.number
    short = piece(spoken[:32_000])
    assert in_parts(short, first, "short") == []


@pytest.mark.parametrize(
    ("doubt", "counts", "astray", "taken"),
    [
        ("short", (5, 9), False, "parts"),
        ("short", (5, 5), False, "first"),
        ("short", (50, 50), True, "first"),
        ("repeats", (2, 3), False, "parts"),
        ("repeats", (2, 30), True, "first"),
    ],
)
def test_the_better_text_is_taken(
    doubt: str, counts: tuple[int, ...], astray: bool, taken: str
) -> None:
    again = Again(0, segment("first", 10), doubt, 2, repeats=astray)  # type: ignore[arg-type]
    again.parts.update({1: segment("b", counts[1]), 0: segment("a", counts[0])})
    found = [each.text for each in better_of(again)]
    assert found == (["a", "b"] if taken == "parts" else ["first"])


def test_nobody_speaks_where_whisper_and_voice_activity_say_so(spoken: np.ndarray) -> None:
    noise = piece(np.random.default_rng(0).normal(size=64_000).astype(np.float32) * 0.01)
    talk = piece(spoken)
    assert nobody_speaks(segment("you", 1, 0.9, -0.7), noise)
    assert nobody_speaks(segment("you", 1, 0.9, -1.3), talk)
    assert not nobody_speaks(segment("you", 1, 0.9, -0.7), talk)
    assert not nobody_speaks(segment("you", 1, 0.1, -1.3), noise)
    assert not nobody_speaks(segment("you", 1, None), noise)
