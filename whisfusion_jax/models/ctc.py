"""A CTC head on the encoder's states: what is heard at each moment, all at once.

It drafts a whole text before the decoder's first pass (`decoding/drafts.py`). No word of it is
believed that the decoder doesn't agree to, so it may be small, name a part of the vocabulary, and
learn from little. (Connectionist temporal classification: Graves and others, 2006.)
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from whisfusion_jax.config import CtcConfig
from whisfusion_jax.models.decoder import Decoder
from whisfusion_jax.models.encoder import EncoderBlock
from whisfusion_jax.models.layers import layer_norm
from whisfusion_jax.models.output import arg_max

UNKNOWN = -1
"""Among a head's names: a token that it can't name."""
BLANK = -2
"""Nothing new is said."""

_LENGTH = 1 / 3
"""Of the output layer's columns at first: small, so that no name is sure."""
_BLANK_BIAS = 2.0


class CtcHead(nnx.Module):
    """Frames joined by a few, blocks like the encoder's, and a score for each name.

    Attributes:
        names: [vocabulary] int32: the token of each score; BLANK first and UNKNOWN last.
    """

    def __init__(self, config: CtcConfig, *, rngs: nnx.Rngs) -> None:
        width = config.width
        self.stride = config.stride
        self.names = nnx.Variable(jnp.full(config.vocabulary, UNKNOWN, jnp.int32))
        self.states_norm = layer_norm(width, rngs)
        self.join = nnx.Linear(config.stride * width, width, rngs=rngs)
        self.blocks = nnx.List(
            EncoderBlock(width, config.heads, rngs=rngs) for _ in range(config.layers)
        )
        self.norm = layer_norm(width, rngs)
        self.output = nnx.Linear(width, config.vocabulary, rngs=rngs)

    def moments(self, states: jax.Array) -> jax.Array:
        """Hidden states of joined frames.

        Args:
            states: [batch, frames, width] of the encoder, without the padding memory's.

        Returns:
            [batch, frames / stride, width], the frames' number rounded up.
        """
        batch, frames, _ = states.shape
        x = jnp.pad(self.states_norm(states), ((0, 0), (0, -frames % self.stride), (0, 0)))
        x = self.join(x.reshape(batch, -1, x.shape[-1] * self.stride))
        for block in self.blocks:
            x = block(x, block.keys_values(x))
        return self.norm(x)

    def scores(self, moments: jax.Array, names: jax.Array | None = None) -> jax.Array:
        """[..., width] to [..., vocabulary] float32; or to the scores of some names alone."""
        assert self.output.bias is not None
        kernel, bias = self.output.kernel[...], self.output.bias[...]
        if names is not None:
            kernel, bias = kernel[:, names], bias[names]
        return jnp.matmul(moments, kernel, preferred_element_type=jnp.float32) + bias

    def numbers(self, tokens: jax.Array) -> jax.Array:
        """Tokens as the head counts its names; the last, UNKNOWN, for those that it lacks."""
        same = tokens[..., None] == self.names[...]
        return jnp.where(same.any(-1), same.argmax(-1), self.names.shape[0] - 1)

    def hear(self, states: jax.Array, sure: float = 0.0) -> jax.Array:
        """The likeliest name of each moment: [batch, frames / stride] int32.

        Args:
            states: as `moments` takes them.
            sure: tokens less probable than this are UNKNOWN.
        """
        scores = self.scores(self.moments(states))
        names = self.names[arg_max(scores)]
        unsure = scores.max(-1) - jax.nn.logsumexp(scores, axis=-1) < math.log(sure or 1e-9)
        return jnp.where(unsure & (names != BLANK), UNKNOWN, names)


def ctc_head(decoder: Decoder, config: CtcConfig, tokens: np.ndarray, seed: int = 0) -> CtcHead:
    """A head that can name some tokens; its output layer starts from a decoder's embeddings.

    Args:
        decoder: Whisper's.
        tokens: [vocabulary - 2] int32.
    """
    head = CtcHead(config, rngs=nnx.Rngs(seed))
    head.names.set_value(jnp.asarray([BLANK, *tokens, UNKNOWN], jnp.int32))
    known = decoder.embedding[...][jnp.asarray(tokens)]
    scale = _LENGTH / jnp.linalg.norm(known, axis=1).mean()
    head.output.kernel.set_value(jnp.pad(scale * known.T, ((0, 0), (1, 1))))
    # At most moments nothing new is said.
    assert head.output.bias is not None
    head.output.bias.set_value(jnp.zeros(config.vocabulary).at[0].set(_BLANK_BIAS))
    return head
