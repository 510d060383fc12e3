"""Where a window is quiet, by its loudness alone."""

import numpy as np

from whisfusion_jax.audio.arrays import SAMPLE_RATE
from whisfusion_jax.config import FRAMES_PER_SECOND

_ABOVE_FLOOR = 4.0
"""Times the power of the quietest tenth, 6 dB, that is quiet yet."""
_BELOW_SPEECH = 300.0, 10_000.0
"""How many times weaker than speech the quiet is at least, 25 dB, and what is quiet anyway, 40."""


def quiet_frames(samples: np.ndarray) -> np.ndarray:
    """Which of the encoder's frames are quiet: those of pauses, if there is little noise.

    Args:
        samples: [samples] float32 at 16 kHz.

    Returns:
        [frames] bool, 50 a second.
    """
    size = SAMPLE_RATE // FRAMES_PER_SECOND
    filled = np.pad(samples, (0, -len(samples) % size))
    power = np.square(filled.reshape(-1, size)).mean(axis=1)
    floor, speech = np.quantile(power, (0.1, 0.95))
    loudest, anyway = (speech / times for times in _BELOW_SPEECH)
    return power <= min(max(_ABOVE_FLOOR * floor, anyway), loudest)


def without_quiet(quiet: np.ndarray, begin: int, end: int) -> tuple[int, int]:
    """A stretch of frames without the quiet at its ends; itself if all of it is quiet."""
    loud = np.flatnonzero(~quiet[begin:end])
    return (begin + int(loud[0]), begin + int(loud[-1]) + 1) if len(loud) else (begin, end)
