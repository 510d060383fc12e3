from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import SIGNALS
from whisfusion_jax.audio.mel import log_mel, power_by_products
from whisfusion_jax.audio.windows import pad_to


@pytest.mark.parametrize("bins", [80, 128])
@pytest.mark.parametrize("name", SIGNALS)
def test_equals_transformers(name: str, bins: int, recorded: Mapping[str, np.ndarray]) -> None:
    ours = log_mel(pad_to(SIGNALS[name], 30)[None], bins)[0]
    assert ours.shape == (3000, bins)
    np.testing.assert_allclose(ours[::37], recorded[f"mel_{bins}_{name}"], atol=1e-4, rtol=0)


def test_rows_of_a_batch_dont_touch_each_other() -> None:
    loud, quiet = pad_to(SIGNALS["tone"], 6), pad_to(SIGNALS["quiet_noise"], 6)
    both = log_mel(np.stack([loud, quiet]))
    np.testing.assert_allclose(both[1], log_mel(quiet[None])[0], atol=1e-6)


@pytest.mark.parametrize("name", SIGNALS)
@pytest.mark.parametrize("length", [400, 512])
def test_the_products_of_a_tpu_are_the_transform(name: str, length: int) -> None:
    whole = pad_to(SIGNALS[name], 30)[:48_000]
    windows = whole.reshape(-1, 400) * np.hanning(400).astype(np.float32)
    exact = np.abs(np.fft.rfft(windows.astype(np.float64), length)) ** 2
    # Ten times finer than a mel's depth of eight decades.
    np.testing.assert_allclose(
        power_by_products(windows, length), exact, rtol=1e-3, atol=1e-9 * exact.max()
    )


@settings(max_examples=20, deadline=None)
@given(gain=st.floats(1e-3, 10), seed=st.integers(0, 5))
def test_with_a_loudness_the_gain_doesnt_matter(gain: float, seed: int) -> None:
    samples = np.random.default_rng(seed).normal(size=(1, 16_000)).astype(np.float32)
    shifted = log_mel(samples * np.float32(gain), loudness=1.5)
    np.testing.assert_allclose(shifted, log_mel(samples, loudness=1.5), atol=1e-4)
    assert float(shifted.max()) == pytest.approx((1.5 + 4) / 4, abs=1e-5)


@pytest.mark.parametrize("samples", [100, 400, 16_001])
def test_refuses_lengths_that_are_no_whole_frames(samples: int) -> None:
    with pytest.raises(ValueError, match="not a multiple"):
        log_mel(np.zeros((1, samples), np.float32))
