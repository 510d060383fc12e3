"""The place of the highest score."""

import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from whisfusion_jax.models.output import arg_max


@settings(deadline=None)
@given(st.lists(st.sampled_from([-np.inf, -1.0, 0.0, 2.0]), min_size=1, max_size=200))
def test_the_first_of_the_highest_is_found(row: list[float]) -> None:
    assert arg_max(jnp.array([[row]]))[0, 0] == np.argmax(row)
