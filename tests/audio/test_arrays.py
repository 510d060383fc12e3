import numpy as np
import pytest

from tests.audio.media import tone
from whisfusion_jax.audio.arrays import check_samples, samples_of
from whisfusion_jax.errors import AudioError

ROW = tone(1, 16_000)[0]
STEREO = tone(1, 16_000, channels=2)


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (ROW.astype(np.float64), ROW),
        ((ROW * 2**15).astype(np.int16), ROW),
        ((ROW.astype(np.float64) * 2**31).astype(np.int32), ROW),
        ((ROW * 127 + 128.5).astype(np.uint8), ROW),
        (STEREO, 0.75 * ROW),
        (STEREO.T, 0.75 * ROW),
        (ROW[:, None], ROW),
        (np.stack([ROW, -ROW]), ROW),
        ((ROW, 16_000), ROW),
        ((16_000, (STEREO * 2**15).astype(np.int16).T), 0.75 * ROW),
    ],
    ids="float64 int16 int32 uint8 rows columns column antiphase rate scipy".split(),  # noqa: SIM905
)
def test_takes_what_audio_libraries_give(array: object, expected: np.ndarray) -> None:
    found = samples_of(array)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=0.01)


def test_another_rate_is_resampled() -> None:
    found = samples_of((tone(1, 44_100)[0], 44_100))
    assert len(found) == pytest.approx(16_000, abs=2)
    np.testing.assert_allclose(found[1000:-1000], ROW[1000 : len(found) - 1000], atol=0.01)


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros(0, np.float32), "no samples"),
        (np.array([0.0, np.nan]), "not finite"),
        (np.array([0.0, np.inf]), "not finite"),
        (np.zeros((2, 10, 3), np.float32), "not one row"),
        (np.zeros(10, bool), "not samples of sound"),
        (np.array(["a"]), "not samples of sound"),
        ((np.zeros(10), 3), "a rate of 3 Hz"),
    ],
)
def test_names_what_is_wrong_with_an_array(array: object, reason: str) -> None:
    with pytest.raises(AudioError, match=reason):
        samples_of(array)


def test_a_set_of_data_takes_rows_of_floats_alone() -> None:
    with pytest.raises(AudioError, match="not one row of floats"):
        check_samples(np.zeros(10, np.int16), "the set")
