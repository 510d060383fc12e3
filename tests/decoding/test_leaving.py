"""A batch's loop goes on with those who are not done, and no result depends on it."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from whisfusion_jax.decoding.leaving import while_any


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Sums:
    """Rows that add up their own numbers, some longer than others."""

    steps: jax.Array
    work: jax.Array
    """Rows that were computed, over all steps."""
    left: jax.Array
    """[batch]"""
    total: jax.Array
    """[2 * batch, 3]: two for each row."""


def add(numbers: jax.Array, sums: Sums) -> Sums:
    live = sums.left > 0
    added = jnp.where(live, numbers, 0)
    return Sums(
        sums.steps + 1, sums.work + len(live), sums.left - live,
        sums.total + jnp.repeat(added, 2)[:, None],
    )  # fmt: skip


@jax.jit
def add_up(left: jax.Array, numbers: jax.Array) -> Sums:
    nothing = jnp.zeros((2 * len(left), 3), jnp.int32)
    start = Sums(jnp.int32(0), jnp.int32(0), left, nothing)
    return while_any(lambda sums: sums.left > 0, add, numbers, start)


@settings(deadline=None)  # compiles
@given(st.sampled_from([1, 3, 4, 17, 32]).flatmap(lambda n: st.tuples(*[st.integers(0, 9)] * n)))
def test_every_row_comes_to_its_own_end(left: tuple[int, ...]) -> None:
    numbers = np.arange(1, len(left) + 1)
    sums = add_up(np.array(left), numbers)
    assert sums.steps == max(left)
    expected = np.repeat(numbers * left, 2)
    np.testing.assert_array_equal(sums.total, np.stack([expected] * 3, 1))


def test_one_long_row_does_not_hold_the_others() -> None:
    sums = add_up(np.array([2] * 20 + [100] + [2] * 11), np.ones(32, int))
    assert sums.steps == 100
    assert sums.work < 5 * 100
