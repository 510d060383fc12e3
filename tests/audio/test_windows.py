import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import SAMPLES
from whisfusion_jax.audio.mel import SAMPLE_RATE
from whisfusion_jax.audio.read import read_audio
from whisfusion_jax.audio.windows import Window, bucket_for, cut_windows, pad_to, speech_spans


def silence(seconds: float) -> np.ndarray:
    noise = np.random.default_rng(0).normal(size=int(seconds * SAMPLE_RATE))
    return (1e-4 * noise).astype(np.float32)


@pytest.fixture(scope="module")
def speech() -> list[np.ndarray]:
    return [read_audio(path) for path in sorted(SAMPLES.glob("*.flac"))]


def test_silence_is_in_no_window_and_all_speech_is_in_one(speech: list[np.ndarray]) -> None:
    pauses = (4, 0.5, 2, 75)
    parts, places, at = [], [], 0
    for pause, clip in zip(pauses, speech, strict=False):
        parts += [silence(pause), clip]
        at += len(parts[-2])
        places.append((at, at + len(clip)))
        at += len(clip)
    samples = np.concatenate([*parts, silence(20)])
    windows = cut_windows(samples, 9.5)
    spans = [span for window in windows for span in window.spans]
    assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(spans))
    spoken = sum(len(clip) for clip in speech[: len(pauses)])
    assert 0.6 * spoken < sum(end - begin for begin, end in spans) < 1.1 * spoken + SAMPLE_RATE
    for window in windows:
        assert len(window.samples(samples)) <= 9.5 * SAMPLE_RATE
        gaps = [later[0] - earlier[1] for earlier, later in itertools.pairwise(window.spans)]
        assert all(gap < 5 * SAMPLE_RATE for gap in gaps)
    # Cut in pauses: as loud as where nobody speaks.
    for window in windows:
        for edge in (window.start, window.end):
            near = samples[max(edge - 400, 0) : edge + 400]
            assert np.abs(near).max() < 0.1 * np.abs(samples).max()


def test_without_speech_there_is_no_window() -> None:
    assert cut_windows(silence(40), 30) == []
    assert speech_spans(silence(3)) == []


@settings(max_examples=20, deadline=None)
@given(seconds=st.floats(0.01, 9.5), seed=st.integers(0, 9))
def test_what_fits_is_one_window_whatever_it_is(seconds: float, seed: int) -> None:
    samples = np.random.default_rng(seed).normal(size=max(1, int(seconds * SAMPLE_RATE)))
    assert cut_windows(samples.astype(np.float32), 9.5) == [Window(((0, len(samples)),))]


def test_speech_without_a_pause_is_cut_where_it_is_quietest(speech: list[np.ndarray]) -> None:
    # The same second of a sentence, over and over.
    samples = np.resize(speech[1][8_000:24_000], 20 * SAMPLE_RATE)
    assert len(speech_spans(samples)) == 1
    samples[8 * SAMPLE_RATE : 8 * SAMPLE_RATE + 1600] *= 0.01
    windows = cut_windows(samples, 9.5)
    assert 8 <= windows[0].end / SAMPLE_RATE <= 8.1
    assert windows[0].end == windows[1].start
    assert sum(window.end - window.start for window in windows) == len(samples)


@pytest.mark.parametrize(
    ("within", "expected"),
    [
        ((0.0, 1.0), (1.0, 2.0)),
        ((2.0, 2.5), (4.0, 4.5)),
        ((1.9, 2.5), (4.0, 4.5)),  # begins a little too early: it is behind the pause
        ((1.5, 2.1), (2.5, 3.0)),
        ((3.0, 3.0), (5.0, 5.0)),
        ((0.5, 0.5), (1.5, 1.5)),
    ],
)
def test_seconds_are_those_of_the_recording(
    within: tuple[float, float], expected: tuple[float, float]
) -> None:
    window = Window(((SAMPLE_RATE, 3 * SAMPLE_RATE), (4 * SAMPLE_RATE, 5 * SAMPLE_RATE)))
    assert window.seconds(*within) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("seconds", "bucket"), [(0.1, 6), (5.5, 6), (5.51, 10), (29, 30), (30, 30)]
)
def test_bucket_is_the_shortest_that_holds_with_some_spare(seconds: float, bucket: int) -> None:
    assert bucket_for(int(seconds * 16_000)) == bucket


def test_pads_with_silence() -> None:
    padded = pad_to(np.ones(10), 2)
    assert padded.shape == (32_000,)
    assert padded.sum() == 10
