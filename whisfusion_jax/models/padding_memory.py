"""The padding memory: constant vectors that stand for the padded part of Whisper's 30 s window.

Whisper was trained on windows padded to 30 s, and without what the padded frames hold its decoder
goes astray. What they hold hardly depends on the clip, so it is kept as a constant: each encoder
layer's keys and values there, and the final states, averaged over a few clips and pooled over
time. A pooled vector that stands for n frames gets log n added to its attention scores, which is
what n equal keys would amount to. This project's own; docs/padding_memory.md has the measurements.
"""

import math
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp

from whisfusion_jax.config import MemoryConfig, WhisperConfig
from whisfusion_jax.models.layers import KeysValues


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class PaddingMemory:
    """Pooled keys, values and states of the padded frames, from the smallest bucket's end on."""

    keys: jax.Array
    """[layers, heads, vectors, features]."""
    values: jax.Array
    """[layers, heads, vectors, features]."""
    states: jax.Array
    """[vectors, width]."""
    config: MemoryConfig = field(metadata={"static": True})

    def after(self, frames: int) -> "PaddingMemory":
        """The part that follows a bucket of this many encoder frames.

        Raises:
            ValueError: the bucket is shorter than the memory's first frame, or ends within a
                pooled vector.
        """
        if not self.config.fits(frames):
            raise ValueError(
                f"a bucket of {frames} frames does not fit a memory from {self.config.first_frame} "
                f"on, pooled by {self.config.pool}"
            )
        start = (frames - self.config.first_frame) // self.config.pool
        return PaddingMemory(
            self.keys[:, :, start:], self.values[:, :, start:], self.states[start:], self.config
        )

    def positions(self, frames: int) -> int:
        """Of a bucket's states: its frames, and the vectors behind."""
        rest = self.config.first_frame + self.config.pool * self.states.shape[0] - frames
        return frames + -(-rest // self.config.pool)

    def score_bias(self, frames: int) -> jax.Array:
        """What is added to attention scores over a bucket and the memory: [frames + vectors]."""
        vectors = self.states.shape[0]
        return jnp.concatenate([jnp.zeros(frames), jnp.full(vectors, math.log(self.config.pool))])


def extend(attended: KeysValues, kept: tuple[jax.Array, ...]) -> KeysValues:
    """A layer's keys and values, [batch, heads, frames, features], with the memory's behind.

    Args:
        kept: the memory's of this layer, each [heads, vectors, features].
    """
    keys, values = (
        jnp.concatenate([own, _for_batch(rows, own)], axis=2)
        for own, rows in zip(attended, kept, strict=True)
    )
    return keys, values


def _for_batch(rows: jax.Array, like: jax.Array) -> jax.Array:
    return jnp.broadcast_to(rows, (like.shape[0], *rows.shape)).astype(like.dtype)


def memory_shapes(model: WhisperConfig, memory: MemoryConfig) -> dict[str, tuple[int, ...]]:
    """The shapes of a memory's arrays, for loading it."""
    vectors = (model.audio_positions - memory.first_frame) // memory.pool
    per_head = (model.heads, vectors, model.width // model.heads)
    return {
        "keys": (model.encoder_layers, *per_head),
        "values": (model.encoder_layers, *per_head),
        "states": (vectors, model.width),
    }
