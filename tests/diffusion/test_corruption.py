"""Masks: how many, where, and the same from the same key."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whisfusion_jax.diffusion.corruption import Ahead, Corruption, Mixed, Uniform, high_mask

ALL = (Uniform(), high_mask(), Ahead(), Mixed((Uniform(), high_mask(), Ahead())))


@pytest.mark.parametrize("corruption", ALL, ids=lambda c: type(c).__name__)
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), rows=st.sampled_from([3, 8, 12]))
def test_every_row_has_a_mask_and_a_ratio(corruption: Corruption, seed: int, rows: int) -> None:
    lengths = jnp.asarray(np.random.default_rng(seed).integers(1, 16, rows))
    masked = corruption(jax.random.key(seed), lengths, 16)
    assert masked.mask.shape == (rows, 16)
    assert masked.mask.any(-1).all()
    assert ((masked.ratio > 0) & (masked.ratio <= 1)).all()
    again = corruption(jax.random.key(seed), lengths, 16)
    np.testing.assert_array_equal(masked.mask, again.mask)


def test_uniform_masks_as_much_as_its_ratio_says() -> None:
    masked = Uniform()(jax.random.key(0), jnp.full(64, 400), 400)
    np.testing.assert_allclose(masked.mask.mean(-1), masked.ratio, atol=0.1)
    # Stratified: one ratio in each sixty-fourth.
    assert sorted(np.ceil(masked.ratio * 64).astype(int)) == list(range(1, 65))


def test_high_mask_stays_high_and_masks_some_rows_whole() -> None:
    masked = high_mask(0.7, fully=0.25)(jax.random.key(0), jnp.full(16, 50), 50)
    assert masked.mask[:4].all()
    assert masked.ratio.min() >= 0.7


def test_ahead_leaves_a_beginning_visible() -> None:
    lengths = jnp.full(40, 20)
    mask = np.asarray(Ahead(lifted=0.0)(jax.random.key(1), lengths, 32).mask)
    first = mask.argmax(-1)
    assert all(row[start:].all() for row, start in zip(mask, first, strict=True))
    assert set(first) == set(range(20))
