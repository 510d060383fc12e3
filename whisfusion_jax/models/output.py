"""The output layer: hidden states to a score for each token of the vocabulary."""

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

_TILE = 64


def scores(hidden: jax.Array, table: jax.Array) -> jax.Array:
    """[..., width] to [..., vocabulary] float32, by a table of embeddings [vocabulary, width]."""
    return jnp.matmul(hidden, table.T, preferred_element_type=jnp.float32)


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
