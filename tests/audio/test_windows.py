import numpy as np
import pytest

from whisfusion_jax.audio.arrays import SAMPLE_RATE
from whisfusion_jax.audio.windows import Window, bucket_for, pad_to


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
