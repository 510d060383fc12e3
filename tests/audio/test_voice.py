import numpy as np

from tests.conftest import SAMPLES
from tests.support import SIGNALS
from whisfusion_jax.audio.arrays import SAMPLE_RATE
from whisfusion_jax.audio.read import read_audio
from whisfusion_jax.audio.voice import MOMENT, MOMENTS_PER_SECOND, speech_probabilities


def speech_probability(samples: np.ndarray) -> np.ndarray:
    return np.concatenate([found for _, found in speech_probabilities([samples])])


def test_speech_is_heard_and_silence_around_it_is_not() -> None:
    clip = read_audio(SAMPLES / "LJ001-0002.flac")
    samples = np.concatenate([np.zeros(3 * SAMPLE_RATE, np.float32), clip])
    found = speech_probability(samples)
    assert len(found) == -(-len(samples) // MOMENT)
    before = int(3 * MOMENTS_PER_SECOND)
    assert found[:before].max() < 0.2
    assert (found[before:] > 0.5).mean() > 0.7


def test_noise_tones_and_nothing_are_no_speech() -> None:
    for name in ("tone", "quiet_noise", "silence"):
        assert speech_probability(SIGNALS[name]).max() < 0.5, name
    assert len(speech_probability(np.zeros(1, np.float32))) == 1


def test_long_recordings_are_heard_as_short_ones_are() -> None:
    clip = read_audio(SAMPLES / "LJ001-0002.flac")
    long = np.tile(clip, 1 + 80 * SAMPLE_RATE // len(clip))
    np.testing.assert_allclose(
        speech_probability(long)[: len(clip) // MOMENT],
        speech_probability(clip)[: len(clip) // MOMENT],
        atol=1e-5,
    )
    assert (speech_probability(long) > 0.5).mean() > 0.6
