"""Layers that Whisper's encoder and decoder share."""

import jax
import jax.numpy as jnp
from flax import nnx

KeysValues = tuple[jax.Array, jax.Array]
"""Keys and values of one attention, each [batch, positions, heads, features]."""


class Attention(nnx.Module):
    """Multi-head attention with Whisper's biases: queries, values and output have one, keys none."""

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
        keys, values = attended
        mixed = jax.nn.dot_product_attention(
            self._split(self.query(x)), keys, values, bias=bias, mask=mask
        )
        return self.out(mixed.reshape(x.shape))

    def _split(self, x: jax.Array) -> jax.Array:
        return x.reshape(*x.shape[:-1], self.heads, -1)


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


def positions(count: int, width: int) -> nnx.Param[jax.Array]:
    """A table of positions, filled from the checkpoint: [count, width]."""
    return nnx.Param(jnp.zeros((count, width)))
