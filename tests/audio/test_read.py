from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from tests.audio.media import FORMATS, tone, write
from whisfusion_jax.audio.read import check_samples, read_audio
from whisfusion_jax.errors import AudioError


def strongest(samples: np.ndarray) -> float:
    """Frequency of the strongest partial, in Hz."""
    spectrum = np.abs(np.fft.rfft(samples))
    return float(spectrum.argmax() * 16_000 / len(samples))


@pytest.mark.parametrize("ending", FORMATS)
def test_reads_every_format(ending: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"tone.{ending}", ending, tone(2, 48_000), 48_000)
    samples = read_audio(path)
    assert samples.dtype == np.float32
    assert len(samples) == pytest.approx(32_000, abs=2_000)  # codecs pad at the ends
    assert strongest(samples) == pytest.approx(440, abs=2)
    assert np.sqrt(2 * np.square(samples[8_000:24_000]).mean()) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 44_100, 48_000])
def test_resamples_every_rate(rate: int, tmp_path: Path) -> None:
    path = write(tmp_path / "tone.wav", "wav", tone(1, rate), rate)
    samples = read_audio(path)
    assert len(samples) == pytest.approx(16_000, abs=2)
    assert strongest(samples) == pytest.approx(440, abs=1)


def test_averages_channels(tmp_path: Path) -> None:
    path = write(tmp_path / "stereo.wav", "wav", tone(1, 16_000, channels=2), 16_000)
    samples = read_audio(path)
    np.testing.assert_allclose(samples, tone(1, 16_000)[0] * 0.75, atol=1e-3)


def test_sixteen_kilohertz_comes_through_unchanged(tmp_path: Path) -> None:
    original = tone(1, 16_000)
    path = write(tmp_path / "tone.wav", "float.wav", original, 16_000)
    np.testing.assert_array_equal(read_audio(path), original[0])


def test_reads_the_sound_of_a_video(tmp_path: Path) -> None:
    path = write(tmp_path / "clip.mp4", "mp4", tone(1, 48_000), 48_000, picture=True)
    assert strongest(read_audio(path)) == pytest.approx(440, abs=2)


def test_reads_open_files_and_bytes(tmp_path: Path) -> None:
    path = write(tmp_path / "tone.flac", "flac", tone(1, 16_000), 16_000)
    np.testing.assert_array_equal(read_audio(BytesIO(path.read_bytes())), read_audio(path))


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        (np.zeros(0, np.float32), "no samples"),
        (np.array([0.0, np.nan]), "not finite"),
        (np.array([0.0, np.inf]), "not finite"),
        (np.zeros((2, 10), np.float32), "not one row"),
        (np.zeros(10, np.int16), "not one row of floats"),
    ],
)
def test_names_what_is_wrong_with_an_array(samples: np.ndarray, reason: str) -> None:
    with pytest.raises(AudioError, match=reason):
        check_samples(samples, "the array")
