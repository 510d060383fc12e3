"""Samples to tokens as one compiled program for each bucket and batch size."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from whisfusion_jax.audio.mel import log_mel
from whisfusion_jax.audio.windows import pad_to
from whisfusion_jax.decoding.autoregressive import Decoded, Vocabulary
from whisfusion_jax.decoding.beam import decode_by_beam
from whisfusion_jax.decoding.greedy import decode_greedily
from whisfusion_jax.models.padding_memory import PaddingMemory
from whisfusion_jax.models.whisper import Whisper


@dataclass(frozen=True)
class RecogniserSettings:
    """What a compiled program depends on beside shapes."""

    vocabulary: Vocabulary
    mel_bins: int
    beams: int = 1
    max_tokens: int = 224


@partial(jax.jit, static_argnames="settings")
def recognise(
    model: Whisper,
    memory: PaddingMemory | None,
    samples: jax.Array,
    prompt: jax.Array,
    settings: RecogniserSettings,
) -> Decoded:
    """The whole path on the device: log-mel, encoder, decoder.

    Args:
        memory: None for windows of 30 s.
        samples: [batch, n] float32, zero-padded to the bucket.
        prompt: [batch, p] int32, see `decoding.autoregressive.read_prompt`.
    """
    loudness = None if memory is None else memory.config.loudness
    audio = model.encoder(log_mel(samples, settings.mel_bins, loudness), memory)
    if settings.beams == 1:
        return decode_greedily(
            model.decoder, audio, prompt, settings.vocabulary, settings.max_tokens
        )
    return decode_by_beam(
        model.decoder, audio, prompt, settings.vocabulary, settings.beams, settings.max_tokens
    )


class Recogniser:
    """Keeps the compiled programs; a second batch of the same shape compiles nothing."""

    def __init__(
        self,
        model: Whisper,
        memory: PaddingMemory | None,
        settings: RecogniserSettings,
        on_compile: Callable[[str], None],
    ) -> None:
        self._model = model
        self._memory = memory
        self._settings = settings
        self._on_compile = on_compile
        self._programs: dict[tuple[int, int], Any] = {}
        self.compile_seconds = 0.0
        """Spent compiling so far; not part of any batch's time."""

    def __call__(
        self, windows: Sequence[np.ndarray], prompts: Sequence[Sequence[int]], bucket: int
    ) -> tuple[Decoded, float]:
        """Recognise windows of one bucket.

        Args:
            windows: each [samples], at most `bucket` seconds.
            bucket: seconds.

        Returns:
            NumPy results with a row a window, and the seconds that it took.
        """
        # A power of two of rows, the last repeated: few shapes to compile, and no row that runs on.
        rows = 1 << (len(windows) - 1).bit_length()
        filled = [min(row, len(windows) - 1) for row in range(rows)]
        memory = self._memory if bucket < 30 else None
        prompt = np.array([prompts[row] for row in filled], np.int32)
        program = self._program(bucket, memory, prompt)
        begin = time.perf_counter()
        samples = np.stack([pad_to(windows[row], bucket) for row in filled])
        decoded = program(self._model, memory, jnp.asarray(samples), jnp.asarray(prompt))
        decoded = jax.device_get(decoded)
        return decoded, time.perf_counter() - begin

    def _program(self, bucket: int, memory: PaddingMemory | None, prompt: np.ndarray) -> Any:
        key = bucket, len(prompt)
        if key not in self._programs:
            self._on_compile(f"compiling for windows of {bucket} s, {len(prompt)} at once")
            begin = time.perf_counter()
            samples = jax.ShapeDtypeStruct((len(prompt), bucket * 16_000), jnp.float32)
            lowered = recognise.lower(self._model, memory, samples, prompt, self._settings)
            self._programs[key] = lowered.compile()
            self.compile_seconds += time.perf_counter() - begin
        return self._programs[key]
