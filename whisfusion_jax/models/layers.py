"""Layers that Whisper's encoder and decoder share."""

import jax
import jax.numpy as jnp
from flax import nnx

KeysValues = tuple[jax.Array, jax.Array]
"""Keys and values of one attention, each [batch, heads, positions, features]."""


def attend(
    queries: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    bias: jax.Array | None = None,
    mask: jax.Array | None = None,
) -> jax.Array:
    """Softmax attention, scores and softmax in float32.

    Heads stand before positions, so that each head's matrices lie whole in memory: on a CPU much
    faster than `jax.nn.dot_product_attention` with heads behind (docs/design.md). Dividing by the
    softmax's sum after the second product rather than before spares one pass over the scores.

    Args:
        queries: [batch, heads, queries, features]; keys and values alike, over positions.
        bias: float32, added to the scores, broadcastable to [batch, heads, queries, positions].
        mask: True where a query may look, broadcastable likewise; every query somewhere.

    Returns:
        [batch, heads, queries, features].
    """
    queries = queries * queries.shape[-1] ** -0.5
    scores = jnp.einsum("bhqd,bhkd->bhqk", queries, keys, preferred_element_type=jnp.float32)
    if bias is not None:
        scores = scores + bias
    if mask is not None:
        scores = jnp.where(mask, scores, -jnp.inf)
    weights = jnp.exp(scores - scores.max(-1, keepdims=True))
    total = weights.sum(-1, keepdims=True)
    mixed = jnp.einsum("bhqk,bhkd->bhqd", weights.astype(values.dtype), values)
    return (mixed / total).astype(values.dtype)


class Attention(nnx.Module):
    """Multi-head attention with Whisper's biases: on queries, values and output, not on keys."""

    def __init__(self, width: int, heads: int, *, rngs: nnx.Rngs) -> None:
        self.heads = heads
        self.query = nnx.Linear(width, width, rngs=rngs)
        self.key = nnx.Linear(width, width, use_bias=False, rngs=rngs)
        self.value = nnx.Linear(width, width, rngs=rngs)
        self.out = nnx.Linear(width, width, rngs=rngs)

    def keys_values(self, states: jax.Array) -> KeysValues:
        """Project what is attended to: [batch, positions, width] to keys and values."""
        return self._split(self.key(states)), self._split(self.value(states))

    def __call__(
        self,
        x: jax.Array,
        attended: KeysValues,
        bias: jax.Array | None = None,
        mask: jax.Array | None = None,
    ) -> jax.Array:
        """Attend from x, [batch, queries, width], to keys and values.

        Args:
            bias: added to the scores, broadcastable to [batch, heads, queries, positions].
            mask: True where a query may look, of the same shape.
        """
        mixed = attend(self._split(self.query(x)), *attended, bias=bias, mask=mask)
        return self.out(mixed.swapaxes(1, 2).reshape(x.shape))

    def _split(self, x: jax.Array) -> jax.Array:
        """[batch, positions, width] to [batch, heads, positions, features]."""
        return x.reshape(*x.shape[:2], self.heads, -1).swapaxes(1, 2)


class FeedForward(nnx.Module):
    """Two linear layers with an exact (erf) GELU between: [..., width] to [..., width]."""

    def __init__(self, width: int, *, rngs: nnx.Rngs) -> None:
        self.up = nnx.Linear(width, 4 * width, rngs=rngs)
        self.down = nnx.Linear(4 * width, width, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.down(jax.nn.gelu(self.up(x), approximate=False))


def layer_norm(width: int, rngs: nnx.Rngs) -> nnx.LayerNorm:
    """Whisper's layer norm: statistics in float32, by the two-pass variance that PyTorch uses."""
    return nnx.LayerNorm(width, epsilon=1e-5, use_fast_variance=False, rngs=rngs)


def table(count: int, width: int) -> nnx.Param[jax.Array]:
    """A table of embeddings, filled from a checkpoint: [count, width]."""
    return nnx.Param(jnp.zeros((count, width)))
