"""When each token of a text was spoken: a few heads' cross-attention, and dynamic time warping.

As OpenAI's reference does for word times (whisper/timing.py): the finished text is read once more,
and where the alignment heads of Whisper's decoder look while they read a token is where it is
spoken. All of it runs on the device, a batch at once.
"""

import jax
import jax.numpy as jnp

from whisfusion_jax.models.decoder import CrossCache, Decoder, DecoderBlock
from whisfusion_jax.models.denoiser import Denoiser, DenoiserBlock
from whisfusion_jax.transcription.warping import first_frames, smoothed

Heads = tuple[tuple[int, int], ...]
"""(layer, head) pairs."""

_LATE = 5
"""Frames by which heads look too late, by what a synthesizer tells (docs/long_recordings.md)."""


def beginnings(
    reader: Decoder | Denoiser,
    cross: CrossCache,
    prompt: jax.Array,
    tokens: jax.Array,
    lengths: jax.Array,
    frames: jax.Array,
    heads: Heads,
) -> jax.Array:
    """The frame in which each token begins.

    Args:
        reader: Whisper's decoder, or a warm denoiser, which reads as it does.
        cross: of each row's audio; the recording's frames stand first.
        prompt: [rows, p] int32, its language named.
        tokens: [rows, n] int32: texts, and anything behind them.
        lengths: [rows] int32: of the texts, at most n.
        frames: [rows] int32: of each recording, without padding; at least 1.
        heads: that follow the audio.

    Returns:
        [rows, n + 1] int32, ascending: of each token, then the text's end; behind it the
        recording's.
    """
    looks = _looks(reader, cross, jnp.concatenate([prompt, tokens], axis=1), heads)
    # A token is where its predecessor looks, which names it.
    looks = looks[:, :, prompt.shape[1] - 1 :].astype(jnp.float32)
    sounds = jnp.arange(looks.shape[-1]) < frames[:, None]
    looks = jax.nn.softmax(jnp.where(sounds[:, None, None], looks, -jnp.inf), axis=-1)
    said = (jnp.arange(looks.shape[2]) <= lengths[:, None])[:, None, :, None]
    mean = looks.mean(axis=2, where=said, keepdims=True)
    deviation = looks.std(axis=2, where=said, keepdims=True)
    looks = smoothed((looks - mean) / jnp.maximum(deviation, 1e-6))
    begins = jax.vmap(first_frames)(looks.mean(axis=1), lengths, frames)
    begins = jnp.maximum(begins - _LATE, 0)
    return jnp.where(said[:, 0, :, 0], begins, frames[:, None])


def _looks(
    reader: Decoder | Denoiser, cross: CrossCache, sequence: jax.Array, heads: Heads
) -> jax.Array:
    """Attention scores of some heads: [rows, heads, n, positions]."""
    n = sequence.shape[1]
    at = jnp.arange(n)
    x = reader.embed(sequence, cross.counted(at))
    behind = (at <= at[:, None]) & cross.held(at[None, None], n)
    found = []
    for layer, (block, audio) in enumerate(zip(reader.blocks, cross.layers, strict=True)):
        assert isinstance(block, DecoderBlock | DenoiserBlock)
        normed = block.attention_norm(x)
        x = x + block.attention(normed, block.attention.keys_values(normed), mask=behind)
        normed = block.cross_norm(x)
        if own := [head for in_layer, head in heads if in_layer == layer]:
            queries, keys = block.cross_attention.queries(normed)[:, own], audio[0][:, own]
            scale = queries.shape[-1] ** -0.5
            found.append(jnp.einsum("bhqd,bhkd->bhqk", scale * queries, keys))
        x = x + block.cross_attention(normed, audio, bias=cross.bias)
        x = x + block.mlp(block.mlp_norm(x))
    return jnp.concatenate(found, axis=1)
