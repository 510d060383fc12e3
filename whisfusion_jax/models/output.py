"""The output layer: hidden states to a score for each token of the vocabulary."""

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

_TILE = 64
_FEW = 5
"""Hidden states whose scores a CPU's nearest caches hold."""


def scores(hidden: jax.Array, table: jax.Array) -> jax.Array:
    """[..., width] to [..., vocabulary] float32, by a table of embeddings [vocabulary, width]."""
    return jnp.matmul(hidden, table.T, preferred_element_type=jnp.float32)


def in_tiles(table: jax.Array) -> jax.Array:
    """A table for a CPU's products with a few hidden states: [tiles, width, 64].

    For more than one state XLA rearranges the table in each product; tiles lie as they are read.
    Worth a tenth of all of exact decoding (docs/results.md).
    """
    rows = jnp.pad(table, ((0, -len(table) % _TILE), (0, 0)))
    return rows.reshape(-1, _TILE, table.shape[1]).swapaxes(1, 2)


def pays_in_tiles(hidden: jax.Array) -> bool:
    """Whether these are few enough, [..., width]."""
    return 1 < hidden.size // hidden.shape[-1] <= _FEW


def scores_in_tiles(hidden: jax.Array, tiles: jax.Array, vocabulary: int) -> jax.Array:
    """`scores` by a table in tiles, of which so many rows are tokens."""
    rows = hidden.reshape(-1, hidden.shape[-1])
    each = jax.lax.dot_general(
        jnp.broadcast_to(rows, (len(tiles), *rows.shape)),
        tiles,
        (((2,), (1,)), ((0,), (0,))),
        preferred_element_type=jnp.float32,
    )
    return jnp.moveaxis(each, 0, 1).reshape(*hidden.shape[:-1], -1)[..., :vocabulary]


def arg_max(logits: jax.Array) -> jax.Array:
    """[..., n] to [...] int32: the first of equals.

    A CPU finds a maximum fast and its place slowly, so the
    place is sought in one tile alone.
    """
    filled = (*((0, 0),) * (logits.ndim - 1), (0, -logits.shape[-1] % _TILE))
    tiles = jnp.pad(_whole(logits), filled, constant_values=-jnp.inf)
    tiles = tiles.reshape(*logits.shape[:-1], -1, _TILE)
    tile = tiles.max(-1).argmax(-1)
    own = jnp.take_along_axis(tiles, tile[..., None, None], axis=-2)[..., 0, :]
    return (_TILE * tile + own.argmax(-1)).astype(jnp.int32)


def _whole(logits: jax.Array) -> jax.Array:
    """Gathered from devices that share the vocabulary.

    Padding parts would move them by a permutation, for which a CPU waits for all devices of a mesh,
    even those whose rows are done.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if "tensor" in mesh.auto_axes and mesh.shape["tensor"] > 1:
        rows = (P.UNCONSTRAINED,) * (logits.ndim - 1)
        return jax.lax.with_sharding_constraint(logits, P(*rows, None))
    return logits
