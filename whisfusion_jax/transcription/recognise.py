"""Samples to tokens as one compiled program for each bucket and batch size."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from whisfusion_jax.audio.mel import SAMPLE_RATE, log_mel
from whisfusion_jax.audio.windows import WINDOW_SECONDS, frames_of, pad_to
from whisfusion_jax.config import ROWS
from whisfusion_jax.decoding.denoising import Draws
from whisfusion_jax.errors import WhisfusionError
from whisfusion_jax.models.encoder import Encoder
from whisfusion_jax.models.padding_memory import PaddingMemory
from whisfusion_jax.parallel.mesh import by_rows, row_shards
from whisfusion_jax.transcription.alignment import Heads
from whisfusion_jax.transcription.decoders import (
    Decode,
    Texts,
    candidates_of,
    joined,
    timed,
    with_candidates,
)


@dataclass(frozen=True)
class RecogniserSettings:
    """What a compiled program depends on beside shapes."""

    mel_bins: int
    decode: Decode
    heads: Heads = ()
    """That say when each token was spoken; without them none is said."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Windows:
    """A batch of what is to be recognised."""

    samples: jax.Array
    """[batch, n] float32, zero-padded to the bucket."""
    frames: jax.Array
    """[batch] int32: the encoder's, without the padding."""
    prompt: jax.Array
    """[batch, p] int32, in the decoder's tokens."""
    numbers: jax.Array
    """[batch, 3] uint32, for random draws: the seed, each window's own number, and that of the
    first candidate."""


@partial(jax.jit, static_argnames=("settings", "mesh"))
def recognise_spread(
    models: tuple[Encoder, Any, PaddingMemory | None],
    windows: Windows,
    settings: RecogniserSettings,
    mesh: Mesh,
) -> Texts:
    """`recognise`, its windows spread over a mesh: each part ends its loops by itself."""

    def alone(models: tuple[Encoder, Any, PaddingMemory | None], windows: Windows) -> Texts:
        return recognise(*models, windows, settings)

    spread = jax.shard_map(
        alone,
        mesh=mesh,
        in_specs=(P(), P(ROWS)),
        out_specs=P(ROWS),
        # The axis `tensor` is left to the compiler.
        axis_names=set(ROWS),
        check_vma=False,
    )
    return spread(models, windows)


def recognise(
    encoder: Encoder,
    decoder: Any,
    memory: PaddingMemory | None,
    windows: Windows,
    settings: RecogniserSettings,
) -> Texts:
    """The whole path on the device: log-mel, encoder, decoder, and when it was said.

    Args:
        decoder: the model that `settings.decode` runs.
        memory: None for windows of 30 s.
    """
    samples, numbers = windows.samples, windows.numbers
    loudness = None if memory is None else memory.config.loudness
    audio = encoder.row_by_row(log_mel(samples, settings.mel_bins, loudness), memory)
    keys = jax.vmap(lambda pair: jax.random.fold_in(jax.random.key(pair[0]), pair[1]))(numbers)
    draws = Draws(keys, numbers[:, 2].astype(jnp.int32))
    seconds = samples.shape[1] // SAMPLE_RATE
    texts = settings.decode(decoder, audio, windows.prompt, draws, seconds)
    if not settings.heads:
        return texts
    reader, vocabulary = settings.decode.reader(decoder), settings.decode.vocabulary
    return timed(
        texts, reader, audio, windows.prompt, windows.frames, settings.heads, seconds, vocabulary
    )


class Recogniser:
    """Keeps the compiled programs; a second batch of the same shape compiles nothing."""

    def __init__(
        self,
        encoder: Encoder,
        decoder: Any,
        memory: PaddingMemory | None,
        settings: RecogniserSettings,
        mesh: Mesh,
        on_compile: Callable[[str], None],
    ) -> None:
        """Take over what lies on the mesh's devices.

        Raises:
            WhisfusionError: the mesh spreads weights over an axis that recognising has no use for.
        """
        if mesh.shape["fsdp"] > 1:
            raise WhisfusionError("mesh: fsdp is for training; use data or tensor")
        self._encoder = encoder
        self._decoder = decoder
        self._memory = memory
        self._mesh = mesh
        self._settings = settings
        self._on_compile = on_compile
        self._programs: dict[tuple[int, int, RecogniserSettings], Any] = {}
        self.compile_seconds = 0.0
        """Spent compiling so far; not part of any batch's time."""

    def __call__(
        self,
        windows: Sequence[np.ndarray],
        prompts: Sequence[Sequence[int]],
        numbers: Sequence[tuple[int, int]],
        bucket: int,
    ) -> tuple[Texts, float]:
        """Recognise windows of one bucket.

        Args:
            windows: each [samples], at most `bucket` seconds.
            numbers: the seed and each window's own number.
            bucket: seconds.

        Returns:
            NumPy results with a row a window, and the seconds that it took.
        """
        parts = self._parts(len(windows))
        begin, compiled = time.perf_counter(), self.compile_seconds
        models, batch, settings = self._batch(windows, prompts, numbers, bucket)
        texts = jax.device_get(self._program(bucket, models, batch, settings)(models, batch))
        seconds = time.perf_counter() - begin - (self.compile_seconds - compiled)
        return joined(texts, len(windows), parts), seconds

    def prepare(self, bucket: int, windows: int, prompt: Sequence[int]) -> None:
        """Compile what so many windows of a bucket need, if it isn't there."""
        silence = [np.zeros(1, np.float32)] * windows
        arguments = self._batch(silence, [prompt] * windows, [(0, 0)] * windows, bucket)
        self._program(bucket, *arguments)

    def _batch(
        self,
        windows: Sequence[np.ndarray],
        prompts: Sequence[Sequence[int]],
        numbers: Sequence[tuple[int, int]],
        bucket: int,
    ) -> tuple[tuple[Encoder, Any, PaddingMemory | None], Windows, RecogniserSettings]:
        """What a program is called with."""
        parts = self._parts(len(windows))
        count = len(windows) * parts
        # A power of two of rows on each shard of the mesh, the last repeated: few shapes to
        # compile, and no row that runs on.
        shards = row_shards(self._mesh)
        rows = shards << (-(-count // shards) - 1).bit_length()
        filled = [divmod(min(row, count - 1), parts) for row in range(rows)]
        memory = self._memory if bucket < WINDOW_SECONDS else None
        each = candidates_of(self._settings.decode) // parts
        settings = replace(self._settings, decode=with_candidates(self._settings.decode, each))
        arrays = (
            np.stack([pad_to(windows[window], bucket) for window, _ in filled]),
            np.array([frames_of(windows[window]) for window, _ in filled], np.int32),
            np.array([prompts[window] for window, _ in filled], np.int32),
            np.array([(*numbers[window], part * each) for window, part in filled], np.uint32),
        )
        batch = Windows(*jax.device_put(arrays, by_rows(self._mesh)))
        return (self._encoder, self._decoder, memory), batch, settings

    def _parts(self, windows: int) -> int:
        """Shards that each window's candidates are spread over, where there are shards to spare."""
        candidates = candidates_of(self._settings.decode)
        spare = max(1, row_shards(self._mesh) // windows)
        return max(part for part in range(1, spare + 1) if candidates % part == 0)

    def _program(
        self,
        bucket: int,
        models: tuple[Encoder, Any, PaddingMemory | None],
        batch: Windows,
        settings: RecogniserSettings,
    ) -> Any:
        key = bucket, len(batch.samples), settings
        if key not in self._programs:
            self._on_compile(f"compiling for windows of {bucket} s, {len(batch.samples)} at once")
            begin = time.perf_counter()
            lowered = recognise_spread.lower(models, batch, settings, self._mesh)
            self._programs[key] = lowered.compile()
            self.compile_seconds += time.perf_counter() - begin
        return self._programs[key]
