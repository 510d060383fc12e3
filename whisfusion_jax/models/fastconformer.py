"""FastConformer: the encoder of Canary and Parakeet (arXiv 2305.05084).

Frames are joined by eight in strided convolutions; then blocks of half a feed-forward, attention by
relative positions, a gated convolution, and half a feed-forward (Conformer, arXiv 2005.08100;
Transformer-XL's positions, arXiv 1901.02860).
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from whisfusion_jax.audio.mel import HOP
from whisfusion_jax.audio.nemo_mel import normalised_log_mel
from whisfusion_jax.config import FastConformerConfig
from whisfusion_jax.models.encoder import AudioStates
from whisfusion_jax.models.layers import layer_norm
from whisfusion_jax.models.padding_memory import PaddingMemory
from whisfusion_jax.models.stack import through

_HALVINGS = 3
"""Strided convolutions: frames are joined by two to this power."""


class Subsampling(nnx.Module):
    """Log-mel frames joined by eight: [batch, frames, mel] to [batch, frames / 8, width]."""

    def __init__(self, config: FastConformerConfig, *, rngs: nnx.Rngs) -> None:
        channels = config.channels
        around = ((1, 1), (1, 1))
        self.first = nnx.Conv(1, channels, (3, 3), strides=2, padding=around, rngs=rngs)
        self.depthwise = nnx.List(
            nnx.Conv(
                channels, channels, (3, 3), strides=2, padding=around,
                feature_group_count=channels, rngs=rngs,
            )
            for _ in range(_HALVINGS - 1)
        )  # fmt: skip
        self.pointwise = nnx.List(
            nnx.Conv(channels, channels, (1, 1), rngs=rngs) for _ in range(_HALVINGS - 1)
        )
        bins = config.mel_bins // 2**_HALVINGS
        self.out = nnx.Linear(channels * bins, config.width, rngs=rngs)

    def __call__(self, mel: jax.Array, lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The joined frames, and how many there are.

        Args:
            lengths: [batch] int32: frames that are no padding.
        """

        def kept(x: jax.Array, lengths: jax.Array) -> jax.Array:
            return jnp.where(_there(lengths, x.shape[1])[..., None, None], x, 0.0)

        lengths = _halved(lengths)
        x = jax.nn.relu(kept(self.first(mel[..., None]), lengths))
        for depthwise, pointwise in zip(self.depthwise, self.pointwise, strict=True):
            lengths = _halved(lengths)
            x = kept(depthwise(x), lengths)
            x = jax.nn.relu(kept(pointwise(x), lengths))
        # Channels before bins, as the output layer counts.
        return self.out(x.swapaxes(2, 3).reshape(*x.shape[:2], -1)), lengths


class RelativeAttention(nnx.Module):
    """Attention that knows how far away a key is: [batch, frames, width] to the same."""

    def __init__(self, config: FastConformerConfig, *, rngs: nnx.Rngs) -> None:
        width, heads = config.width, config.heads
        self.heads = heads
        self.query = nnx.Linear(width, width, use_bias=config.bias, rngs=rngs)
        self.key = nnx.Linear(width, width, use_bias=config.bias, rngs=rngs)
        self.value = nnx.Linear(width, width, use_bias=config.bias, rngs=rngs)
        self.out = nnx.Linear(width, width, use_bias=config.bias, rngs=rngs)
        self.distance = nnx.Linear(width, width, use_bias=False, rngs=rngs)
        self.content_bias = nnx.Param(jnp.zeros((heads, width // heads)))
        self.distance_bias = nnx.Param(jnp.zeros((heads, width // heads)))

    def __call__(self, x: jax.Array, there: jax.Array) -> jax.Array:
        """Attend.

        Args:
            there: [batch, frames]: False where padding is, which no one sees.
        """
        batch, frames, width = x.shape

        def by_head(each: jax.Array) -> jax.Array:
            return each.reshape(*each.shape[:-1], self.heads, -1)

        query, key, value = map(by_head, (self.query(x), self.key(x), self.value(x)))
        distance = by_head(self.distance(_distances(frames, width).astype(x.dtype)))
        content = jnp.einsum("bqhd,bkhd->bhqk", query + self.content_bias[...], key)
        far = jnp.einsum("bqhd,phd->bhqp", query + self.distance_bias[...], distance)
        scores = (content + _by_key(far)).astype(jnp.float32) * query.shape[-1] ** -0.5
        # Finite, as a row that is all padding sees nothing.
        scores = jnp.where(there[:, None, None], scores, jnp.finfo(jnp.float32).min)
        weights = jax.nn.softmax(scores).astype(x.dtype)
        return self.out(jnp.einsum("bhqk,bkhd->bqhd", weights, value).reshape(batch, frames, width))


class Convolution(nnx.Module):
    """What is near, gated: a depthwise convolution between two layers."""

    def __init__(self, config: FastConformerConfig, *, rngs: nnx.Rngs) -> None:
        width, bias = config.width, config.bias
        self.gated = nnx.Linear(width, 2 * width, use_bias=bias, rngs=rngs)
        self.depthwise = nnx.Conv(
            width, width, config.taps, feature_group_count=width, use_bias=bias, rngs=rngs
        )
        self.norm = Standardised(width)
        self.out = nnx.Linear(width, width, use_bias=bias, rngs=rngs)

    def __call__(self, x: jax.Array, there: jax.Array) -> jax.Array:
        x, gate = jnp.split(self.gated(x), 2, axis=-1)
        x = jnp.where(there[..., None], x * jax.nn.sigmoid(gate), 0.0)
        return self.out(jax.nn.silu(self.norm(self.depthwise(x))))


class Standardised(nnx.Module):
    """Batch normalisation by what training measured: each feature shifted and scaled."""

    def __init__(self, width: int) -> None:
        self.scale, self.bias = nnx.Param(jnp.ones(width)), nnx.Param(jnp.zeros(width))
        self.mean, self.variance = nnx.Param(jnp.zeros(width)), nnx.Param(jnp.ones(width))

    def __call__(self, x: jax.Array) -> jax.Array:
        scale = self.scale[...] * jax.lax.rsqrt(self.variance[...] + 1e-5)
        return x * scale + (self.bias[...] - self.mean[...] * scale)


class SiluFeedForward(nnx.Module):
    """Two layers, SiLU between."""

    def __init__(self, config: FastConformerConfig, *, rngs: nnx.Rngs) -> None:
        width, hidden, bias = config.width, config.hidden, config.bias
        self.up = nnx.Linear(width, hidden, use_bias=bias, rngs=rngs)
        self.down = nnx.Linear(hidden, width, use_bias=bias, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.down(jax.nn.silu(self.up(x)))


class ConformerBlock(nnx.Module):
    """Half a feed-forward, attention, convolution, half a feed-forward; each behind a norm."""

    def __init__(self, config: FastConformerConfig, *, rngs: nnx.Rngs) -> None:
        width = config.width
        self.first_norm = layer_norm(width, rngs)
        self.first = SiluFeedForward(config, rngs=rngs)
        self.attention_norm = layer_norm(width, rngs)
        self.attention = RelativeAttention(config, rngs=rngs)
        self.near_norm = layer_norm(width, rngs)
        self.near = Convolution(config, rngs=rngs)
        self.second_norm = layer_norm(width, rngs)
        self.second = SiluFeedForward(config, rngs=rngs)
        self.norm = layer_norm(width, rngs)

    def __call__(self, x: jax.Array, there: jax.Array) -> jax.Array:
        x = x + 0.5 * self.first(self.first_norm(x))
        x = x + self.attention(self.attention_norm(x), there)
        x = x + self.near(self.near_norm(x), there)
        x = x + 0.5 * self.second(self.second_norm(x))
        return self.norm(x)


class FastConformer(nnx.Module):
    """Samples to states, 12.5 a second."""

    def __init__(self, config: FastConformerConfig, *, rngs: nnx.Rngs) -> None:
        self.mel_bins = config.mel_bins
        self.scale = config.width**0.5 if config.scaled else 1.0
        self.subsampling = Subsampling(config, rngs=rngs)
        self.blocks = nnx.List(ConformerBlock(config, rngs=rngs) for _ in range(config.layers))
        wanted = config.projected
        self.project = nnx.Linear(config.width, wanted, rngs=rngs) if wanted else None

    def hear(
        self, samples: jax.Array, lengths: jax.Array, memory: PaddingMemory | None = None
    ) -> AudioStates:
        """As `AudioEncoder` has it; padding isn't heard, so there is no memory."""
        mel = normalised_log_mel(samples, lengths, self.mel_bins)
        return self(mel, lengths // HOP)

    def __call__(self, mel: jax.Array, lengths: jax.Array) -> AudioStates:
        """Encode log-mel features.

        Args:
            mel: [batch, frames, mel], normalised.
            lengths: [batch] int32: frames that are no padding.
        """
        x, lengths = self.subsampling(mel.astype(self.subsampling.out.kernel.dtype), lengths)
        there = _there(lengths, x.shape[1])
        x = through(self.blocks, lambda block, x: block(x, there), x * self.scale)
        if self.project is not None:
            x = self.project(x)
        return AudioStates(x, _hidden(there))


def without_padding(states: jax.Array, lengths: jax.Array) -> AudioStates:
    """States that were stored, as the decoders read them.

    Args:
        states: [batch, frames, width].
        lengths: [batch] int32: the samples that are no padding.
    """
    frames = lengths // HOP
    for _ in range(_HALVINGS):
        frames = _halved(frames)
    return AudioStates(states, _hidden(_there(frames, states.shape[1])))


def _hidden(there: jax.Array) -> jax.Array:
    """[batch, frames] to what keeps decoders from looking at padding, [batch, 1, 1, frames]."""
    return jnp.where(there, 0.0, -jnp.inf)[:, None, None]


def _there(lengths: jax.Array, frames: int) -> jax.Array:
    """[batch, frames]: True before each row's length."""
    return jnp.arange(frames) < lengths[:, None]


def _halved(lengths: jax.Array) -> jax.Array:
    """Frames behind a convolution of three taps, padded by one, that takes each second."""
    return (lengths - 1) // 2 + 1


def _distances(frames: int, width: int) -> jax.Array:
    """Sines and cosines, in turn, of each distance of a query from a key.

    Returns:
        [2 * frames - 1, width] float32, from `frames - 1` behind the key to as much before it.
    """
    distance = np.arange(frames - 1, -frames, -1, dtype=np.float32)
    slowness = 10_000.0 ** (np.arange(0, width, 2, dtype=np.float32) / width)
    angles = distance[:, None] / slowness
    return jnp.asarray(np.stack([np.sin(angles), np.cos(angles)], -1).reshape(-1, width))


def _by_key(far: jax.Array) -> jax.Array:
    """Scores by distance, [..., frames, 2 * frames - 1], as scores by key, [..., frames, frames].

    Query q finds key k at `frames - 1 - q + k`: each row starts one further left than the one
    above, which rows that are one longer do when they are read one behind the other.
    """
    *rows, frames, distances = far.shape
    padded = jnp.pad(far, ((0, 0),) * (far.ndim - 1) + ((1, 0),))
    sheared = padded.reshape(*rows, distances + 1, frames)[..., 1:, :]
    return sheared.reshape(*rows, frames, distances)[..., :frames]
