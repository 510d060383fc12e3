"""A CTC head on the encoder's states: what is heard at each moment, all at once.

A FastConformer brings its own, which writes well alone. On Whisper's states it is ours: it drafts a
whole text before the decoder's first pass (`decoding/drafts.py`). No word of it is believed that
the decoder doesn't agree to, so it may be small and learn from little. It spells in pieces of
words, of which there are few: what was never heard in training can be spelled all the same
(`text/merging.py` makes tokens of them). (Connectionist temporal classification: Graves and others,
2006.)
"""

from abc import abstractmethod

import jax
import jax.numpy as jnp
from flax import nnx

from whisfusion_jax.config import CtcConfig
from whisfusion_jax.models.encoder import EncoderBlock
from whisfusion_jax.models.layers import FeedForward, layer_norm
from whisfusion_jax.models.output import arg_max

BLANK = -1
"""Instead of a piece: nothing new is said."""

_TAPS = 11
"""Moments that a convolution joins."""
_LENGTH = 0.3
"""Of the output layer's columns at first: small, so that no piece is sure."""
_BLANK_BIAS = 2.0


class NearBlock(nnx.Module):
    """What is said within half a second, and feed-forward: [batch, moments, width] to the same.

    A gated depthwise convolution, as in the Conformer (arXiv 2005.08100). It learns to spell sooner
    than attention does and costs less (docs/training.md).
    """

    def __init__(self, width: int, *, rngs: nnx.Rngs) -> None:
        self.near_norm = layer_norm(width, rngs)
        self.gated = nnx.Linear(width, 2 * width, rngs=rngs)
        taps = jax.random.normal(rngs.params(), (_TAPS, width)) * _TAPS**-0.5
        self.taps = nnx.Param(taps)
        self.out = nnx.Linear(width, width, rngs=rngs)
        self.mlp_norm = layer_norm(width, rngs)
        self.mlp = FeedForward(width, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        moments = x.shape[1]
        gate, near = jnp.split(self.gated(self.near_norm(x)), 2, axis=-1)
        near = near * jax.nn.sigmoid(gate)
        near = jnp.pad(near, ((0, 0), (_TAPS // 2, _TAPS // 2), (0, 0)))
        # As sums, which a CPU is faster at than at a convolution by channels.
        heard = sum(near[:, tap : tap + moments] * self.taps[tap] for tap in range(_TAPS))
        x = x + self.out(jax.nn.silu(heard))
        return x + self.mlp(self.mlp_norm(x))


class CtcHead(nnx.Module):
    """What is said at each moment, by scores."""

    stride: int
    """Frames of a moment."""

    @abstractmethod
    def __call__(self, states: jax.Array) -> jax.Array:
        """Scores for each moment, perhaps of several frames.

        Args:
            states: [batch, frames, width] of the encoder, without the padding memory's.

        Returns:
            [batch, moments, 1 + pieces] float32; the blank's first.
        """

    def hear(
        self, states: jax.Array, there: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """What is said: repetitions and blanks gone.

        Args:
            states: as above.
            there: [batch, frames] bool: what is no padding; None where the encoder hears that.

        Returns:
            [batch, moments] int32: pieces, then BLANK; and their probabilities, float32.
        """
        scores = self(states)
        heard = arg_max(scores) - 1
        if there is not None:
            heard = jnp.where(there[:, :: self.stride], heard, BLANK)
        sure = jnp.exp(scores.max(-1) - jax.nn.logsumexp(scores, axis=-1))
        return collapsed(heard, sure)


class PlainHead(CtcHead):
    """A pre-trained encoder's own: scores for each frame, whose pieces are the model's tokens."""

    stride = 1

    def __init__(self, config: CtcConfig, *, rngs: nnx.Rngs) -> None:
        self.output = nnx.Linear(config.width, 1 + config.pieces, rngs=rngs)

    def __call__(self, states: jax.Array) -> jax.Array:
        return self.output(states).astype(jnp.float32)


class DeepHead(CtcHead):
    """Frames joined by a few, blocks that hear what is near, one of attention, and scores."""

    def __init__(self, config: CtcConfig, *, rngs: nnx.Rngs) -> None:
        width = config.width
        self.stride = config.stride
        self.states_norm = layer_norm(width, rngs)
        self.join = nnx.Linear(config.stride * width, width, rngs=rngs)
        self.near = nnx.List(NearBlock(width, rngs=rngs) for _ in range(config.layers))
        self.whole = EncoderBlock(width, config.heads, rngs=rngs)
        self.norm = layer_norm(width, rngs)
        self.output = nnx.Linear(width, 1 + config.pieces, rngs=rngs)

    def __call__(self, states: jax.Array) -> jax.Array:
        batch, frames, _ = states.shape
        x = jnp.pad(self.states_norm(states), ((0, 0), (0, -frames % self.stride), (0, 0)))
        x = self.join(x.reshape(batch, -1, x.shape[-1] * self.stride))
        for block in self.near:
            x = block(x)
        x = self.whole(x, self.whole.keys_values(x))
        return self.output(self.norm(x)).astype(jnp.float32)


def collapsed(heard: jax.Array, sure: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Moments' pieces, [batch, moments], without repetitions and blanks; the surest one counts."""
    before = jnp.pad(heard[:, :-1], ((0, 0), (1, 0)), constant_values=BLANK)
    new = (heard != before) & (heard != BLANK)
    to = jnp.where(heard == BLANK, heard.shape[1], jnp.cumsum(new, axis=1) - 1)

    def row(heard: jax.Array, sure: jax.Array, to: jax.Array) -> tuple[jax.Array, jax.Array]:
        pieces = jnp.full_like(heard, BLANK).at[to].set(heard, mode="drop")
        return pieces, jnp.zeros_like(sure).at[to].max(sure, mode="drop")

    return jax.vmap(row)(heard, sure, to)


def head_of(config: CtcConfig, *, rngs: nnx.Rngs) -> CtcHead:
    """A head of either kind."""
    return (PlainHead if config.plain else DeepHead)(config, rngs=rngs)


def ctc_head(config: CtcConfig, seed: int = 0) -> DeepHead:
    """A head that has learned nothing."""
    head = DeepHead(config, rngs=nnx.Rngs(seed))
    head.output.kernel.set_value(_LENGTH * head.output.kernel[...])
    # At most moments nothing new is said.
    assert head.output.bias is not None
    head.output.bias.set_value(jnp.zeros(1 + config.pieces).at[0].set(_BLANK_BIAS))
    return head
