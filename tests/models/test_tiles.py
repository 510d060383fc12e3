"""Products by tiles, beside those by the whole matrix."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from whisfusion_jax.models.layers import Linear
from whisfusion_jax.models.tiles import in_tiles, times_tiles


@pytest.mark.parametrize(("inputs", "outputs"), [(16, 64), (16, 200), (6, 3)])
def test_the_product_is_the_same(inputs: int, outputs: int) -> None:
    kernel = jax.random.normal(jax.random.key(0), (inputs, outputs))
    x = jax.random.normal(jax.random.key(1), (2, 1, 2, inputs))
    found = times_tiles(x, in_tiles(kernel), outputs)
    np.testing.assert_allclose(found, x @ kernel, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_layer_says_the_same_in_tiles(use_bias: bool, dtype: jnp.dtype) -> None:
    layer = Linear(16, 80, use_bias=use_bias, rngs=nnx.Rngs(0))
    for variable in jax.tree.leaves(
        nnx.state(layer), is_leaf=lambda v: isinstance(v, nnx.Variable)
    ):
        variable.set_value(jax.random.normal(jax.random.key(2), variable.shape).astype(dtype))
    # Those that tiles are read for, and others.
    inputs = [jax.random.normal(jax.random.key(1), (1, n, 16)).astype(dtype) for n in (1, 5, 100)]
    whole = [layer(x) for x in inputs]
    layer.read_in_tiles()
    close = {"rtol": 2e-2, "atol": 0.1} if dtype == jnp.bfloat16 else {"rtol": 1e-4, "atol": 1e-5}
    for x, expected in zip(inputs, whole, strict=True):
        found = layer(x)
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(
            np.asarray(found, np.float32), np.asarray(expected, np.float32), **close
        )


def test_few_rows_are_read_by_tiles_alone() -> None:
    layer = Linear(16, 80, use_bias=False, rngs=nnx.Rngs(0))
    layer.read_in_tiles()
    layer.kernel.set_value(jnp.zeros((16, 80)))
    sizes = {rows: float(jnp.abs(layer(jnp.ones((rows, 16)))).max()) for rows in (1, 2, 24, 25)}
    assert {rows for rows, size in sizes.items() if size} == {2, 24}
