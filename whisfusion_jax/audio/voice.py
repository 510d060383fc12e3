"""Where in a recording somebody speaks, by Silero's network."""

from functools import cache
from importlib.resources import files

import numpy as np
import onnxruntime

from whisfusion_jax.audio.mel import SAMPLE_RATE

MOMENT = 512
"""Samples that one probability is for, 32 ms."""
MOMENTS_PER_SECOND = SAMPLE_RATE / MOMENT

_CONTEXT = 64
"""Samples before each moment that the network sees as well."""
_AT_ONCE = 2048
"""Moments: hours shall not need gigabytes."""
_MODEL = "assets/voice_activity/silero_vad_16k_sequence.onnx"


def speech_probability(samples: np.ndarray) -> np.ndarray:
    """How probable speech is at each moment.

    Args:
        samples: [samples] float32 at 16 kHz.

    Returns:
        [moments] float32, the last moment filled up with silence.
    """
    moments = -(-len(samples) // MOMENT)
    padded = np.zeros(_CONTEXT + moments * MOMENT, np.float32)
    padded[_CONTEXT : _CONTEXT + len(samples)] = samples
    seen = np.lib.stride_tricks.sliding_window_view(padded, _CONTEXT + MOMENT)[::MOMENT]
    found, state = [], [np.zeros((1, 1, 128), np.float32)] * 2
    for begin in range(0, moments, _AT_ONCE):
        part = np.ascontiguousarray(seen[begin : begin + _AT_ONCE])
        inputs = {"input": part, "h": state[0], "c": state[1]}
        probability, *state = _session().run(None, inputs)
        found.append(probability)
    return np.concatenate(found).astype(np.float32)


@cache
def _session() -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    # Its products are so small that more threads would wait for each other.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    model = files("whisfusion_jax").joinpath(_MODEL).read_bytes()
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
