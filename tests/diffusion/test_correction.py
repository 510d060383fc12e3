"""What a round leaves for the next."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from whisfusion_jax.diffusion.correction import Canvases, doubted

ROWS, N = 4, 6


@pytest.mark.parametrize("groups", [1, 2])
def test_what_was_written_stands_where_it_was_asked_for(groups: int) -> None:
    before = Canvases(jnp.arange(ROWS * N).reshape(ROWS, N), jnp.ones((ROWS, N)))
    # One of a group's own rows each, and one place that is unused.
    index, used = jnp.array([3, 0, 13, 12]), jnp.array([True, False, True, True])
    after = before.written(index, used, jnp.array([90, 91, 92, 93]), jnp.full(4, 0.25), groups)
    expected = np.arange(ROWS * N)
    expected[[3, 13, 12]] = 90, 92, 93
    np.testing.assert_array_equal(after.tokens.ravel(), expected)
    sure = np.ones(ROWS * N)
    sure[[3, 13, 12]] = 0.25
    np.testing.assert_array_equal(after.sure.ravel(), sure)


def test_no_gradient_passes_through_what_was_written() -> None:
    before = Canvases(jnp.zeros((1, N), jnp.int32), jnp.ones((1, N)))

    def total(sure: jax.Array) -> jax.Array:
        used = jnp.array([True, True])
        return before.written(jnp.array([0, 1]), used, jnp.array([5, 6]), sure).sure.sum()

    np.testing.assert_array_equal(jax.grad(total)(jnp.array([0.5, 0.5])), 0)


def test_the_least_sure_are_masked_and_the_text_itself_never() -> None:
    sure = jnp.broadcast_to(jnp.array([1.0, 0.1, 0.9, 0.5, 1.0, 0.3]), (200, N))
    masked = doubted(jax.random.key(0), Canvases(jnp.zeros((200, N), jnp.int32), sure))
    mask = np.asarray(masked.mask)
    assert not mask[:, [0, 4]].any()
    # Who is masked takes all that are less sure along.
    assert (mask[:, 1] >= mask[:, 5]).all()
    assert (mask[:, 5] >= mask[:, 3]).all()
    assert (mask[:, 3] >= mask[:, 2]).all()
    np.testing.assert_allclose(mask.mean(0)[[1, 5, 3, 2]], [0.9, 0.7, 0.5, 0.1], atol=0.12)
    np.testing.assert_allclose(masked.ratio, mask.mean(-1))
