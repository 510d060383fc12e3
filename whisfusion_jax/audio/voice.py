"""Where in a recording somebody speaks, by Silero's network."""

from collections.abc import Iterable, Iterator
from functools import cache
from importlib.resources import files

import numpy as np
import onnxruntime

from whisfusion_jax.audio.arrays import SAMPLE_RATE

MOMENT = 512
"""Samples that one probability is for, 32 ms."""
MOMENTS_PER_SECOND = SAMPLE_RATE / MOMENT

_CONTEXT = 64
"""Samples before each moment that the network sees as well."""
_AT_ONCE = 312
"""Moments that the network is asked about together, ten seconds."""
_MODEL = "assets/voice_activity/silero_vad_16k_sequence.onnx"


def speech_probabilities(
    pieces: Iterable[np.ndarray],
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """How probable speech is at each moment of a recording that is read piece by piece.

    Args:
        pieces: each [samples] float32 at 16 kHz.

    Yields:
        [samples], the next ones, and [moments] float32, of which the recording's last one is filled
        up with silence.
    """
    voice = Voice()
    for part in _in_lengths(pieces, _AT_ONCE * MOMENT):
        yield part, voice(np.pad(part, (0, -len(part) % MOMENT)))


class Voice:
    """Silero's network beside one recording, of which it remembers what it needs."""

    def __init__(self) -> None:
        self._state = [np.zeros((1, 1, 128), np.float32)] * 2
        self._context = np.zeros(_CONTEXT, np.float32)

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """How probable speech is at each of the next moments: [moments] float32.

        Args:
            samples: [moments * MOMENT] float32.
        """
        padded = np.concatenate([self._context, samples])
        seen = np.lib.stride_tricks.sliding_window_view(padded, _CONTEXT + MOMENT)[::MOMENT]
        h, c = self._state
        inputs = {"input": np.ascontiguousarray(seen), "h": h, "c": c}
        probability, *self._state = _session().run(None, inputs)
        self._context = padded[-_CONTEXT:]
        return probability.astype(np.float32)


def _in_lengths(pieces: Iterable[np.ndarray], length: int) -> Iterator[np.ndarray]:
    """The same samples in pieces of one length, but for the last."""
    waiting: list[np.ndarray] = []
    there = 0
    for piece in pieces:
        waiting.append(piece)
        there += len(piece)
        if there >= length:
            whole = np.concatenate(waiting)
            for begin in range(0, there - there % length, length):
                yield whole[begin : begin + length]
            waiting = [whole[there - there % length :]]
            there %= length
    if there:
        yield np.concatenate(waiting)


@cache
def _session() -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    # Its products are so small that more threads would wait for each other.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    model = files("whisfusion_jax").joinpath(_MODEL).read_bytes()
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
