"""A few rows' product with a large matrix, on a CPU: the matrix once more, as it is read.

For more than one row XLA rearranges the matrix in each product, which takes as long as to read it.
Tiles lie as the product reads them. One tile's product would need a copy of the rows for each
tile; but where the products of parts are summed, the compiler makes copying, products and sum one
loop over the tiles (docs/design.md; docs/results.md has what that is worth).
"""

import math

import jax
import jax.numpy as jnp

_TILE = 64
"""Outputs of a tile, as many as a CPU's registers sum at once."""
_PARTS = 4
"""That the inputs are summed in."""
_MOST = 24
"""Rows from which on the products themselves take longer than rearranging."""


@jax.jit
def in_tiles(kernel: jax.Array) -> jax.Array:
    """[inputs, outputs] to [tiles, parts, inputs of a part, 64]; zeros fill the last tile up."""
    inputs, outputs = kernel.shape
    parts = math.gcd(inputs, _PARTS)
    filled = jnp.pad(kernel, ((0, 0), (0, -outputs % _TILE)))
    return filled.reshape(parts, inputs // parts, -1, _TILE).transpose(2, 0, 1, 3)


def tiles_pay(x: jax.Array) -> bool:
    """Whether these are few enough rows, [..., inputs]; a single one has no use for tiles."""
    return 1 < x.size // x.shape[-1] <= _MOST


def times_tiles(x: jax.Array, tiles: jax.Array, outputs: int) -> jax.Array:
    """[..., inputs] times a matrix in tiles, of so many columns: [..., outputs] float32."""
    count, parts, inputs, _ = tiles.shape
    rows = x.reshape(-1, parts, inputs).swapaxes(0, 1)
    products = jax.lax.dot_general(
        jnp.broadcast_to(rows, (count, *rows.shape)),
        tiles,
        (((3,), (2,)), ((0, 1), (0, 1))),
        preferred_element_type=jnp.float32,
    )
    each = jnp.moveaxis(products.sum(1), 0, 1)
    return each.reshape(*x.shape[:-1], -1)[..., :outputs]
