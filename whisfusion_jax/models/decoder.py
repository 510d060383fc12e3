"""The autoregressive decoder, Whisper's or Canary's, over a static cache of keys and values."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx

from whisfusion_jax.config import CanaryConfig, WhisperConfig
from whisfusion_jax.models.encoder import AudioStates
from whisfusion_jax.models.layers import Attention, FeedForward, KeysValues, layer_norm, table
from whisfusion_jax.models.output import scores

Cache = tuple[KeysValues, ...]
"""A layer's self-attention keys and values of all positions so far, each
[batch, heads, length, features]; zeros where nothing is written yet."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class CrossCache:
    """What every step reads of an utterance: cross-attention's keys and values, made once."""

    layers: tuple[KeysValues, ...]
    bias: jax.Array | None
    """[batch, 1, 1, positions], otherwise as in AudioStates."""
    skipped: jax.Array | None = None
    """[batch] int32: the first positions of each row that hold nothing, so that rows with longer
    and shorter prompts end these in one place; None is none."""

    def counted(self, at: jax.Array) -> jax.Array:
        """Positions, [n] or [batch, ..., n], as each row's own text counts them."""
        if self.skipped is None:
            return at
        by_row = self.skipped.reshape(-1, *[1] * max(at.ndim - 1, 1))
        return jnp.maximum(at - by_row, 0)

    def held(self, at: jax.Array, positions: int) -> jax.Array | bool:
        """Which positions hold anything for queries at [batch, ..., n], of all there are.

        Returns:
            [batch, ..., n, positions] bool. What is skipped sees itself: a softmax over nothing
            would spoil all others.
        """
        if self.skipped is None:
            return True
        where = jnp.arange(positions)
        return (where >= self.skipped.reshape(-1, *[1] * at.ndim)) | (where == at[..., None])

    def behind(self, at: jax.Array, positions: int) -> jax.Array:
        """Where queries at [n] look that look back, themselves among it: [..., n, positions]."""
        return (jnp.arange(positions) <= at[:, None]) & self.held(at[None, None], positions)


def cross_cache(blocks: nnx.List, audio: AudioStates) -> CrossCache:
    """Of all layers."""
    layers = tuple(block.cross_attention.keys_values(audio.states) for block in blocks)
    if audio.bias is None:
        return CrossCache(layers, None)
    batch, positions, _ = audio.states.shape
    return CrossCache(layers, jnp.broadcast_to(audio.bias, (batch, 1, 1, positions)))


class DecoderBlock(nnx.Module):
    """Causal self-attention, cross-attention on the audio, feed-forward."""

    def __init__(self, config: WhisperConfig | CanaryConfig, *, rngs: nnx.Rngs) -> None:
        width, heads = config.width, config.heads
        self.attention_norm = layer_norm(width, rngs)
        self.attention = Attention(width, heads, rngs=rngs)
        self.cross_norm = layer_norm(width, rngs)
        self.cross_attention = Attention(width, heads, rngs=rngs)
        self.mlp_norm = layer_norm(width, rngs)
        self.mlp = FeedForward(width, config.hidden, config.kind.relu, rngs=rngs)

    def __call__(
        self,
        x: jax.Array,
        cached: KeysValues,
        position: jax.Array,
        sight: jax.Array,
        cross: KeysValues,
        cross_bias: jax.Array | None,
    ) -> tuple[jax.Array, KeysValues]:
        """Advance tokens that are cached from `position` on: [batch, n, width] to the same."""
        normed = self.attention_norm(x)
        cached = write(cached, self.attention.keys_values(normed), position)
        x = x + self.attention(normed, cached, mask=sight)
        x = x + self.cross_attention(self.cross_norm(x), cross, bias=cross_bias)
        return x + self.mlp(self.mlp_norm(x)), cached


def write(cached: KeysValues, new: KeysValues, position: jax.Array) -> KeysValues:
    """Put new keys and values into the old ones: at one position, or at each row's own."""
    if position.shape == (1,):  # a scatter would be slower
        position = position[0]
    update = partial(jax.lax.dynamic_update_slice_in_dim, axis=2 - position.ndim)
    if position.ndim:
        update = jax.vmap(update)
    keys, values = (update(old, each, position) for old, each in zip(cached, new, strict=True))
    return keys, values


class Decoder(nnx.Module):
    """Token and position embeddings, causal blocks, and logits tied to the token embedding."""

    def __init__(self, config: WhisperConfig | CanaryConfig, *, rngs: nnx.Rngs) -> None:
        self.embedding = table(config.vocabulary, config.width)
        self.positions = table(config.text_positions, config.width)
        kind = config.kind
        self.embedding_norm = layer_norm(config.width, rngs) if kind.normed_embedding else None
        self.blocks = nnx.List(
            DecoderBlock(config, rngs=rngs) for _ in range(config.decoder_layers)
        )
        self.norm = layer_norm(config.width, rngs)
        self.output_bias = nnx.Param(jnp.zeros(config.vocabulary)) if kind.output_bias else None

    def cross_cache(self, audio: AudioStates) -> CrossCache:
        """Every layer's cross-attention keys and values."""
        return cross_cache(self.blocks, audio)

    def empty_cache(self, batch: int, length: int) -> Cache:
        """Room for `length` tokens a row."""
        attention = self.blocks[0].attention
        width = self.positions.shape[1]
        shape = (batch, attention.heads, length, width // attention.heads)
        zeros = jnp.zeros(shape, self.positions.dtype)
        return tuple((zeros, zeros) for _ in self.blocks)

    def __call__(
        self, tokens: jax.Array, cache: Cache, position: jax.Array | int, cross: CrossCache
    ) -> tuple[jax.Array, Cache]:
        """Advance every row by n tokens.

        Args:
            tokens: [batch, n] int32.
            cache: what was written before; n more positions must fit.
            position: from where on they stand.

        Returns:
            hidden states [batch, n, width] (see `logits`), and the cache with n more positions.
        """
        position, n = jnp.asarray(position), tokens.shape[1]
        at, room = position + jnp.arange(n), cache[0][0].shape[2]
        x = self.embed(tokens, cross.counted(at))
        sight = cross.behind(at, room)
        written = []
        for block, cached, audio in zip(self.blocks, cache, cross.layers, strict=True):
            x, cached = block(x, cached, position, sight, audio, cross.bias)
            written.append(cached)
        return self.norm(x), tuple(written)

    read = __call__
    """As a denoiser's is called."""

    def embed(self, tokens: jax.Array, at: jax.Array) -> jax.Array:
        """[batch, n] tokens at positions, [n] or of each row, to the first block's input.

        Returns:
            [batch, n, width].
        """
        x = self.embedding[tokens] + self.positions[at]
        return x if self.embedding_norm is None else self.embedding_norm(x)

    def logits(self, hidden: jax.Array) -> jax.Array:
        """[..., width] to [..., vocabulary] float32: entry i scores what follows position i."""
        logits = scores(hidden, self.embedding[...])
        return logits if self.output_bias is None else logits + self.output_bias[...]
