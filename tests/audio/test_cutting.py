import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import SAMPLES
from whisfusion_jax.audio.arrays import SAMPLE_RATE
from whisfusion_jax.audio.cutting import cut_windows, speech_spans
from whisfusion_jax.audio.read import read_audio
from whisfusion_jax.audio.windows import Window


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
    cuts = list(cut_windows(np.array_split(samples, 7), 9.5))
    windows = [window for window, _ in cuts]
    spans = [span for window in windows for span in window.spans]
    assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(spans))
    spoken = sum(len(clip) for clip in speech[: len(pauses)])
    assert 0.6 * spoken < sum(end - begin for begin, end in spans) < 1.1 * spoken + SAMPLE_RATE
    for window, own in cuts:
        assert len(own) <= 9.5 * SAMPLE_RATE
        parts = [samples[begin:end] for begin, end in window.spans]
        np.testing.assert_array_equal(own, np.concatenate(parts))
        gaps = [later[0] - earlier[1] for earlier, later in itertools.pairwise(window.spans)]
        assert all(gap < 5 * SAMPLE_RATE for gap in gaps)
    # Cut in pauses: as loud as where nobody speaks.
    for window in windows:
        for edge in (window.start, window.end):
            near = samples[max(edge - 400, 0) : edge + 400]
            assert np.abs(near).max() < 0.1 * np.abs(samples).max()


def test_without_speech_there_is_no_window() -> None:
    assert list(cut_windows([silence(40)], 30)) == []
    assert list(cut_windows([], 30)) == []
    assert list(speech_spans([silence(3)], 1_000_000)) == []


@settings(max_examples=20, deadline=None)
@given(seconds=st.floats(0.01, 9.5), seed=st.integers(0, 9))
def test_what_fits_is_one_window_whatever_it_is(seconds: float, seed: int) -> None:
    samples = np.random.default_rng(seed).normal(size=max(1, int(seconds * SAMPLE_RATE)))
    ((window, own),) = cut_windows(np.array_split(samples.astype(np.float32), 3), 9.5)
    assert window == Window(((0, len(samples)),))
    assert len(own) == len(samples)


def test_speech_without_a_pause_is_cut_where_it_is_quietest(speech: list[np.ndarray]) -> None:
    # The same second of a sentence, over and over.
    samples = np.resize(speech[1][8_000:24_000], 20 * SAMPLE_RATE)
    assert len(list(speech_spans([samples], len(samples)))) == 1
    samples[8 * SAMPLE_RATE : 8 * SAMPLE_RATE + 1600] *= 0.01
    windows = [window for window, _ in cut_windows([samples], 9.5)]
    # Both hear 0.6 s on either side of it.
    assert windows[0].goes_on
    assert 8.6 <= windows[0].end / SAMPLE_RATE <= 8.7
    assert 7.4 <= windows[1].start / SAMPLE_RATE <= 7.5
    assert all(window.end - window.start <= 9.5 * SAMPLE_RATE for window in windows)
    assert [window.goes_on for window in windows] == [True] * (len(windows) - 1) + [False]
    assert windows[-1].end == len(samples)
    apart = [window for window, _ in cut_windows([samples], 9.5, overlap=False)]
    assert sum(window.end - window.start for window in apart) == len(samples)
    assert not any(window.goes_on for window in apart)


def test_windows_hold_the_samples_that_they_name(speech: list[np.ndarray]) -> None:
    samples = np.resize(speech[1][8_000:24_000], 30 * SAMPLE_RATE)
    for window, own in cut_windows([samples, speech[0]], 9.5):
        whole = np.concatenate([samples, speech[0]])
        assert np.array_equal(own, np.concatenate([whole[a:b] for a, b in window.spans]))


@settings(max_examples=10, deadline=None)
@given(pieces=st.lists(st.integers(1, 20 * SAMPLE_RATE), max_size=8), longest=st.floats(6, 29))
def test_windows_are_the_same_however_it_is_read(
    speech: list[np.ndarray], pieces: list[int], longest: float
) -> None:
    samples = np.concatenate([part for clip in speech for part in (clip, silence(0.4))])
    whole = list(cut_windows([samples], longest))
    parts = list(cut_windows(np.split(samples, sorted(pieces)), longest))
    assert [window for window, _ in parts] == [window for window, _ in whole]
