"""Samples to what decoders read of them: a program for each bucket, and few lengths come out."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from whisfusion_jax.audio.windows import WINDOW_SECONDS
from whisfusion_jax.config import ROWS, ModelConfig
from whisfusion_jax.models.ctc import BLANK, CtcHead
from whisfusion_jax.models.decoder import CrossCache, Decoder
from whisfusion_jax.models.denoiser import Denoiser
from whisfusion_jax.models.encoder import AudioEncoder
from whisfusion_jax.models.padding_memory import PaddingMemory
from whisfusion_jax.parallel.mesh import own_axes

LENGTHS = (10, 20, WINDOW_SECONDS)
"""Seconds of audio that decoders are compiled for. Their loops take several seconds each to
compile, and read a little more where a bucket is shorter."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Heard:
    """What decoders read of a batch's audio: made once, read at every step."""

    cross: CrossCache
    pieces: tuple[jax.Array, jax.Array] | None
    """[batch, moments] int32 and float32: what a CTC head hears, BLANK behind it, and how sure it
    is."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Listener:
    """The models that hear."""

    encoder: AudioEncoder
    reader: Decoder | Denoiser | None
    """Whose cross-attention will read what is heard; None where a head writes alone."""
    memory: PaddingMemory | None
    """None for windows of 30 s."""
    head: CtcHead | None
    model: ModelConfig = field(metadata={"static": True})
    """Sizes of encoder and reader."""

    def __call__(self, samples: jax.Array, lengths: jax.Array, length: int) -> Heard:
        """Log-mel, encoder, cross-attention's keys and values, a head's pieces.

        Args:
            samples: [batch, n] float32, zero-padded to a bucket.
            lengths: [batch] int32: the samples that are no padding.
            length: seconds that the result is padded to, with what no decoder looks at.
        """
        audio = self.encoder.hear(samples, lengths, self.memory)
        longest, pieces = self.model.frames(length), None
        if self.head is not None:
            heard, sure = self.head.hear(audio.without_memory(), audio.there())
            moments = -(-longest // self.head.stride)
            pieces = _longer(heard, 1, moments, BLANK), _longer(sure, 1, moments, 0)
        if self.reader is None:
            return Heard(CrossCache((), None), pieces)
        cross = self.reader.cross_cache(audio)
        if cross.bias is not None:  # or the window is of 30 s, and as long as any
            positions = longest if self.memory is None else self.memory.positions(longest)
            layers = jax.tree.map(lambda each: _longer(each, 2, positions, 0), cross.layers)
            cross = CrossCache(layers, _longer(cross.bias, 3, positions, -jnp.inf))
        return Heard(cross, pieces)


def _longer(each: jax.Array, axis: int, size: int, fill: float) -> jax.Array:
    behind = [(0, 0)] * each.ndim
    behind[axis] = 0, size - each.shape[axis]
    return jnp.pad(each, behind, constant_values=fill)


@partial(jax.jit, static_argnames=("length", "mesh"))
def hear_spread(
    listener: Listener, samples: jax.Array, lengths: jax.Array, length: int, mesh: Mesh
) -> Heard:
    """What a listener hears, rows spread over a mesh."""

    def alone(listener: Listener, samples: jax.Array, lengths: jax.Array) -> Heard:
        return listener(samples, lengths, length)

    heard = _by_rows(alone, mesh, (P(), P(ROWS), P(ROWS)))(listener, samples, lengths)
    return _laid_out(heard, mesh)


@partial(jax.jit, static_argnames="mesh", donate_argnums=0)
def put_rows(batch: Heard, rows: Heard, at: jax.Array, mesh: Mesh) -> Heard:
    """Write rows into each shard of a batch, in place.

    Args:
        at: int32: the shard's own row from which on.
    """

    def alone(batch: Heard, rows: Heard, at: jax.Array) -> Heard:
        return jax.tree.map(
            lambda all_, new: jax.lax.dynamic_update_slice_in_dim(all_, new, at, 0), batch, rows
        )

    return _laid_out(_by_rows(alone, mesh, (P(ROWS), P(ROWS), P()))(batch, rows, at), mesh)


def _by_rows(alone: Callable[..., Heard], mesh: Mesh, inputs: tuple[P, ...]) -> Any:
    return jax.shard_map(
        alone,
        mesh=mesh,
        in_specs=inputs,
        out_specs=P(ROWS),
        axis_names=own_axes(mesh),
        check_vma=False,
    )


def _laid_out(heard: Heard, mesh: Mesh) -> Heard:
    """Rows, and heads where they can be shared out, each on its devices.

    Parts of a mesh end their loops by themselves, so nothing may have to move there.
    """

    def lay(each: jax.Array) -> jax.Array:
        shared = each.ndim == 4 and each.shape[1] > 1 and each.shape[1] % mesh.shape["tensor"] == 0
        where = P(ROWS, "tensor") if shared else P(ROWS)
        return jax.lax.with_sharding_constraint(each, NamedSharding(mesh, where))

    return jax.tree.map(lay, heard)
