"""Whisper's encoder: log-mel frames to states, on 30 s or on a bucket with the padding memory."""

from dataclasses import dataclass, field
from typing import Protocol

import jax
import jax.numpy as jnp
from flax import nnx

from whisfusion_jax.audio.mel import log_mel
from whisfusion_jax.config import WhisperConfig
from whisfusion_jax.models.layers import Attention, FeedForward, KeysValues, layer_norm, table
from whisfusion_jax.models.padding_memory import PaddingMemory, extend
from whisfusion_jax.models.stack import through


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class AudioStates:
    """What decoders attend to."""

    states: jax.Array
    """[batch, positions, width]: the bucket's frames, then the padding memory's vectors."""
    bias: jax.Array | None
    """[positions] or [batch, 1, 1, positions] float32, added to cross-attention scores: for the
    padding memory, or against padding; None adds nothing."""
    frames: int | None = field(default=None, metadata={"static": True})
    """Of the audio itself, where a memory's vectors follow; else None."""

    def without_memory(self) -> jax.Array:
        """[batch, frames, width]: the audio's own states."""
        return self.states[:, : self.frames]

    def there(self) -> jax.Array | None:
        """[batch, frames] bool: what is no padding; None where the encoder hears that."""
        if self.bias is None or self.bias.ndim < 4 or self.frames is not None:
            return None
        return self.bias[:, 0, 0] == 0


class AudioEncoder(Protocol):
    """A pre-trained encoder: Whisper's, or a FastConformer."""

    def hear(
        self, samples: jax.Array, lengths: jax.Array, memory: PaddingMemory | None = None
    ) -> AudioStates:
        """Encode samples.

        Args:
            samples: [batch, n] float32 at 16 kHz, zeros behind each audio.
            lengths: [batch] int32: the samples that are no padding.
            memory: for encoders that hear padding, where windows are shorter than 30 s.
        """


class EncoderBlock(nnx.Module):
    """Self-attention and feed-forward, each behind a layer norm: [batch, frames, width] to same."""

    def __init__(self, width: int, heads: int, *, rngs: nnx.Rngs) -> None:
        self.attention_norm = layer_norm(width, rngs)
        self.attention = Attention(width, heads, rngs=rngs)
        self.mlp_norm = layer_norm(width, rngs)
        self.mlp = FeedForward(width, rngs=rngs)

    def keys_values(self, x: jax.Array) -> KeysValues:
        return self.attention.keys_values(self.attention_norm(x))

    def __call__(
        self, x: jax.Array, attended: KeysValues, bias: jax.Array | None = None
    ) -> jax.Array:
        x = x + self.attention(self.attention_norm(x), attended, bias=bias)
        return x + self.mlp(self.mlp_norm(x))


class Encoder(nnx.Module):
    """Two convolutions, positions, and a stack of bidirectional blocks."""

    def __init__(self, config: WhisperConfig, *, rngs: nnx.Rngs) -> None:
        width = config.width
        pad_one = ((1, 1),)  # PyTorch's padding=1; "SAME" would shift the strided one by a frame
        self.conv1 = nnx.Conv(config.mel_bins, width, 3, padding=pad_one, rngs=rngs)
        self.conv2 = nnx.Conv(width, width, 3, strides=2, padding=pad_one, rngs=rngs)
        self.positions = table(config.audio_positions, width)
        self.blocks = nnx.List(
            EncoderBlock(width, config.heads, rngs=rngs) for _ in range(config.encoder_layers)
        )
        self.norm = layer_norm(width, rngs)

    def embed(self, mel: jax.Array) -> jax.Array:
        """[batch, 2 * frames, mel] to the first block's input, [batch, frames, width]."""
        x = mel.astype(self.positions.dtype)
        x = jax.nn.gelu(self.conv1(x), approximate=False)
        x = jax.nn.gelu(self.conv2(x), approximate=False)
        return x + self.positions[: x.shape[1]]

    def hear(
        self, samples: jax.Array, lengths: jax.Array, memory: PaddingMemory | None = None
    ) -> AudioStates:
        """As `AudioEncoder` has it; padding is heard, so lengths don't matter."""
        loudness = None if memory is None else memory.config.loudness
        mel = log_mel(samples, self.conv1.kernel.shape[1], loudness)
        return self.row_by_row(mel, memory)

    def __call__(self, mel: jax.Array, memory: PaddingMemory | None = None) -> AudioStates:
        """Encode log-mel features.

        Args:
            mel: [batch, 2 * frames, mel]; 3000 of them without a memory.
            memory: stands for the frames from here to 30 s.
        """
        if memory is None:
            return AudioStates(self._states(mel), None)
        frames = mel.shape[1] // 2
        rest = memory.after(frames)
        return AudioStates(self._states(mel, rest), rest.score_bias(frames), frames)

    def row_by_row(self, mel: jax.Array, memory: PaddingMemory | None = None) -> AudioStates:
        """The same; on a CPU row by row, so that the caches keep what a layer writes."""
        if len(mel) == 1:
            return self(mel, memory)
        frames = mel.shape[1] // 2
        rest = None if memory is None else memory.after(frames)

        def one_by_one(mel: jax.Array) -> jax.Array:
            return jax.lax.map(lambda row: self._states(row[None], rest)[0], mel)

        states = jax.lax.platform_dependent(
            mel, cpu=one_by_one, default=lambda mel: self._states(mel, rest)
        )
        if rest is None:
            return AudioStates(states, None)
        return AudioStates(states, rest.score_bias(frames), frames)

    def _states(self, mel: jax.Array, rest: PaddingMemory | None = None) -> jax.Array:
        x = self.embed(mel)
        if rest is None:
            x = through(self.blocks, lambda block, x: block(x, block.keys_values(x)), x)
            return self.norm(x)
        bias = rest.score_bias(x.shape[1])

        def with_memory(block: EncoderBlock, x: jax.Array, *kept: jax.Array) -> jax.Array:
            return block(x, extend(block.keys_values(x), kept), bias)

        x = self.norm(through(self.blocks, with_memory, x, rest.keys, rest.values))
        tail = jnp.broadcast_to(rest.states, (x.shape[0], *rest.states.shape)).astype(x.dtype)
        return jnp.concatenate([x, tail], axis=1)
