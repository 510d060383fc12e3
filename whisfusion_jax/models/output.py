"""The output layer: hidden states to a score for each token of the vocabulary.

It is the largest product of a small model's pass. On a CPU a product of few rows with a large
matrix spends its time on rearranging the matrix; here it is kept in tiles that need no more of it,
so that some eight rows cost hardly more than one (docs/design.md has the measurements).
"""

from typing import TypeVar

import jax
import jax.numpy as jnp
from flax import nnx

TILE = 64
"""Tokens of a tile."""
FEWEST, MOST = 2, 16
"""Rows for which tiles are the faster way."""

Model = TypeVar("Model", bound=nnx.Module)


def scores(hidden: jax.Array, table: nnx.Param, tiles: nnx.Param | None) -> jax.Array:
    """[..., width] to [..., vocabulary] float32.

    Args:
        table: [vocabulary, width].
        tiles: the same as `tiled` makes it; then scores of 0 may follow, up to whole tiles.
    """
    rows = hidden.size // hidden.shape[-1]
    if tiles is None or not FEWEST <= rows <= MOST:
        return jnp.matmul(hidden, table[...].T, preferred_element_type=jnp.float32)
    flat = hidden.reshape(rows, -1)
    each = jnp.einsum(
        "trw,twn->trn",
        jnp.broadcast_to(flat, (tiles.shape[0], *flat.shape)),
        tiles[...],
        preferred_element_type=jnp.float32,
    )
    return jnp.moveaxis(each, 0, 1).reshape(*hidden.shape[:-1], -1)


def tiled(table: jax.Array) -> jax.Array:
    """[vocabulary, width] to [tiles, width, TILE], filled up with zeros."""
    count, width = table.shape
    filled = jnp.pad(table, ((0, -count % TILE), (0, 0)))
    return filled.reshape(-1, TILE, width).swapaxes(1, 2)


def with_tiles(model: Model) -> Model:
    """A decoder or denoiser, changed in place, that scores few rows by tiles; for CPUs."""
    model.tiles = nnx.Param(tiled(model.embedding[...]))  # type: ignore[attr-defined]
    return model


def arg_max(logits: jax.Array) -> jax.Array:
    """[..., n] to [...] int32: the first of equals.

    A CPU finds a maximum fast and its place slowly, so the place is sought in one tile alone.
    """
    if logits.shape[-1] % TILE:
        return logits.argmax(-1).astype(jnp.int32)
    tiles = logits.reshape(*logits.shape[:-1], -1, TILE)
    tile = tiles.max(-1).argmax(-1)
    own = jnp.take_along_axis(tiles, tile[..., None, None], axis=-2)[..., 0, :]
    return (TILE * tile + own.argmax(-1)).astype(jnp.int32)
