import numpy as np
import pytest

from tests.conftest import SAMPLES
from whisfusion_jax.audio.quiet import quiet_frames, without_quiet
from whisfusion_jax.audio.read import read_audio


@pytest.mark.parametrize("noise", [0.0, 1e-3])
def test_pauses_are_quiet_and_speech_is_not(noise: float) -> None:
    clip = read_audio(SAMPLES / "LJ001-0018.flac")[:64_000]
    pause = np.zeros(32_000, np.float32)
    samples = np.concatenate([pause, clip, pause])
    samples += noise * np.random.default_rng(0).normal(size=len(samples)).astype(np.float32)
    quiet = quiet_frames(samples)
    assert len(quiet) == 400
    assert quiet[5:95].mean() > 0.95
    assert quiet[305:395].mean() > 0.95
    assert quiet[100:300].mean() < 0.4
    begin, end = without_quiet(quiet, 50, 350)
    assert 95 <= begin <= 125
    assert 270 <= end <= 305


def test_in_even_noise_nothing_is_quiet() -> None:
    noise = np.random.default_rng(0).normal(size=32_000).astype(np.float32)
    assert not quiet_frames(noise).any()


def test_what_is_quiet_throughout_stays() -> None:
    assert without_quiet(np.ones(50, bool), 10, 20) == (10, 20)
    assert without_quiet(np.zeros(50, bool), 10, 10) == (10, 10)
    assert len(quiet_frames(np.zeros(321, np.float32))) == 2
