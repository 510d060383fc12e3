import struct
from io import BytesIO
from pathlib import Path

import av
import numpy as np
import pytest

from tests.audio.bad_files import write_float_wav
from tests.audio.media import FORMATS, tone, write
from whisfusion_jax.audio.read import read_audio
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


def test_channels_that_cancel_each_other_out_are_heard(tmp_path: Path) -> None:
    left = tone(1, 16_000)[0]
    path = write(tmp_path / "antiphase.wav", "wav", np.stack([left, -0.9 * left]), 16_000)
    np.testing.assert_allclose(read_audio(path), left, atol=1e-3)


def test_a_rate_and_a_layout_may_change_on_the_way(tmp_path: Path) -> None:
    first = write(tmp_path / "a.mp3", "mp3", tone(3, 44_100, channels=2), 44_100)
    second = write(tmp_path / "b.mp3", "mp3", tone(2, 22_050, frequency=880), 22_050)
    joined = tmp_path / "joined.mp3"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    lost: list[str] = []
    samples = read_audio(joined, lost.append)
    assert len(samples) == pytest.approx(5 * 16_000, abs=4_000)
    assert strongest(samples[:40_000]) == pytest.approx(440, abs=2)
    assert strongest(samples[-24_000:]) == pytest.approx(880, abs=2)


@pytest.mark.parametrize("size", [0, 44, 2**32 - 1], ids=["killed", "short", "streamed"])
def test_a_wave_files_wrong_sizes_lose_nothing(size: int, tmp_path: Path) -> None:
    path = write(tmp_path / "tone.wav", "wav", tone(2, 16_000), 16_000)
    data = bytearray(path.read_bytes())
    at = data.index(b"data") + 4
    promised = size if size != 44 else len(data) - at - 4 + 44
    data[at : at + 4] = struct.pack("<I", promised)
    data[4:8] = struct.pack("<I", min(promised + 36, 2**32 - 1) if promised else 0)
    path.write_bytes(bytes(data) + b"\x01")  # and half a sample more
    lost: list[str] = []
    assert len(read_audio(path, lost.append)) == pytest.approx(32_000, abs=4)
    assert not lost


def test_a_track_without_sound_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "two.mka"
    with av.open(str(path), "w", format="matroska") as container:
        container.add_stream("pcm_s16le", rate=16_000, layout="stereo")
        second = container.add_stream("pcm_s16le", rate=16_000, layout="mono")
        samples = (tone(2, 16_000) * 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(samples, "s16", "mono")
        frame.sample_rate, frame.pts = 16_000, 0
        container.mux(second.encode(frame))
        container.mux(second.encode(None))
    assert strongest(read_audio(path)) == pytest.approx(440, abs=2)


@pytest.mark.parametrize("ending", ["wav", "flac", "m4a", "webm", "ogg", "mp3"])
def test_of_a_cut_file_the_rest_is_read_and_the_loss_named(ending: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"whole.{ending}", ending, tone(8, 16_000), 16_000)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    lost: list[str] = []
    if ending == "m4a":  # its index stands at the end
        with pytest.raises(AudioError, match="not readable"):
            read_audio(path, lost.append)
        return
    samples = read_audio(path, lost.append)
    assert 2 * 16_000 < len(samples) < 6 * 16_000
    assert strongest(samples) == pytest.approx(440, abs=2)
    assert len(lost) == 1
    with pytest.raises(AudioError):
        read_audio(path)


@pytest.mark.parametrize("ending", FORMATS)
def test_damage_in_the_middle_costs_what_is_damaged(ending: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"whole.{ending}", ending, tone(8, 16_000), 16_000)
    whole = path.read_bytes()
    for seed in range(6):
        random, data = np.random.default_rng(seed), bytearray(whole)
        for at in random.integers(len(data) // 4, 3 * len(data) // 4, 3):
            data[at : at + 40] = random.bytes(len(data[at : at + 40]))
        path.write_bytes(data)
        samples = read_audio(path, lambda lost: None)
        # FFmpeg gives a damaged WebM up where its clusters can't be told apart.
        assert len(samples) > (2 if ending == "webm" else 4) * 16_000
        assert np.isfinite(samples).all()


def test_what_is_no_number_is_silent(tmp_path: Path) -> None:
    samples = tone(1, 16_000)[0]
    samples[700] = np.nan
    path = write_float_wav(tmp_path / "nan.wav", samples)
    lost: list[str] = []
    samples[700] = 0
    np.testing.assert_array_equal(read_audio(path, lost.append), samples)
    assert "not finite" in lost[0]
