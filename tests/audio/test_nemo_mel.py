"""NeMo's features."""

from collections.abc import Mapping

import numpy as np
import pytest

from tests.support import SIGNALS
from whisfusion_jax.audio.nemo_mel import normalised_log_mel
from whisfusion_jax.audio.windows import pad_to


@pytest.mark.parametrize("bins", [80, 128])
@pytest.mark.parametrize("name", sorted(SIGNALS.keys() - {"silence"}))
def test_equals_transformers(name: str, bins: int, recorded: Mapping[str, np.ndarray]) -> None:
    samples = SIGNALS[name]
    ours = normalised_log_mel(pad_to(samples, 30)[None], np.array([len(samples)]), bins)[0]
    assert ours.shape == (3000, bins)
    # Where a bin hardly changes, its deviation is small and blows rounding up.
    atol = 1e-2 if name == "quiet_noise" else 1e-3
    expected = recorded[f"nemo_mel_{bins}_{name}"]
    np.testing.assert_allclose(ours[::37], expected, atol=atol, rtol=0)


def test_padding_changes_nothing() -> None:
    samples = SIGNALS["tone"][:16_000]
    length = np.array([len(samples)])
    alone = normalised_log_mel(samples[None], length)
    padded = normalised_log_mel(pad_to(samples, 6)[None], length)
    np.testing.assert_allclose(padded[:, :100], alone, atol=1e-4)
    np.testing.assert_array_equal(padded[:, 100:], 0)


@pytest.mark.parametrize("length", [0, 100, 200, 400])
def test_hardly_any_sound_stays_finite(length: int) -> None:
    noise = np.random.default_rng(0).normal(size=(1, 1600)).astype(np.float32)
    assert np.isfinite(normalised_log_mel(noise, np.array([length]))).all()


def test_silence_which_has_no_deviation_stays_finite() -> None:
    """Its features are rounding alone, so they are held against nothing."""
    assert np.isfinite(normalised_log_mel(np.zeros((1, 16_000)), np.array([16_000]))).all()
