import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whisfusion_jax.audio.windows import bucket_for, cut_windows, pad_to


@settings(max_examples=30, deadline=None)
@given(seconds=st.floats(0.01, 130), seed=st.integers(0, 9))
def test_windows_are_the_whole_recording_and_none_is_too_long(seconds: float, seed: int) -> None:
    samples = np.random.default_rng(seed).normal(size=max(1, int(seconds * 16_000)))
    windows = cut_windows(samples)
    assert all(len(window) <= 30 * 16_000 for _, window in windows)
    np.testing.assert_array_equal(np.concatenate([window for _, window in windows]), samples)
    assert [start for start, _ in windows] == list(
        np.cumsum([0] + [len(window) for _, window in windows])[:-1]
    )


def test_cuts_in_the_pause() -> None:
    samples = np.random.default_rng(0).normal(size=40 * 16_000)
    samples[27 * 16_000 : 27 * 16_000 + 4800] = 0
    second = cut_windows(samples)[1][0] / 16_000
    assert 27 <= second <= 27.3


def test_thirty_seconds_are_one_window() -> None:
    assert len(cut_windows(np.ones(30 * 16_000))) == 1


@pytest.mark.parametrize(
    ("seconds", "bucket"), [(0.1, 6), (5.5, 6), (5.51, 10), (29, 30), (30, 30)]
)
def test_bucket_is_the_shortest_that_holds_with_some_spare(seconds: float, bucket: int) -> None:
    assert bucket_for(int(seconds * 16_000)) == bucket


def test_pads_with_silence() -> None:
    padded = pad_to(np.ones(10), 2)
    assert padded.shape == (32_000,)
    assert padded.sum() == 10
