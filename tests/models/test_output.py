"""Scores of the vocabulary, and the place of the highest."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whisfusion_jax.models.output import arg_max, in_tiles, pays_in_tiles, scores, scores_in_tiles


@settings(deadline=None)
@given(st.lists(st.sampled_from([-np.inf, -1.0, 0.0, 2.0]), min_size=1, max_size=200))
def test_the_first_of_the_highest_is_found(row: list[float]) -> None:
    assert arg_max(jnp.array([[row]]))[0, 0] == np.argmax(row)


@pytest.mark.parametrize("vocabulary", [64, 200])
def test_tiles_give_the_same_scores(vocabulary: int) -> None:
    table = jax.random.normal(jax.random.key(0), (vocabulary, 16))
    hidden = jax.random.normal(jax.random.key(1), (2, 1, 2, 16))
    assert pays_in_tiles(hidden)
    found = scores_in_tiles(hidden, in_tiles(table), vocabulary)
    np.testing.assert_allclose(found, scores(hidden, table), rtol=1e-5, atol=1e-6)
