"""Cutting recordings into windows, and windows into buckets of few lengths."""

import numpy as np

from whisfusion_jax.audio.mel import SAMPLE_RATE
from whisfusion_jax.config import FRAMES_PER_SECOND

WINDOW_SECONDS = 30
"""What Whisper reads at once."""
BUCKETS = (6, 10, 15, 20, 30)
"""Seconds that windows are padded to where the bundle has a padding memory."""
SPARE_SECONDS = 0.5
"""Silence that a bucket keeps behind its clip: the memory stands for silence, and a word cut off
by the bucket's end may end the text there."""

_SEARCH_SECONDS = 5
"""How far back from a full window's end the quietest moment is sought."""
_QUIET_SECONDS = 0.1
"""Length of the moment whose loudness is compared."""


def cut_windows(
    samples: np.ndarray, seconds: float = WINDOW_SECONDS
) -> list[tuple[int, np.ndarray]]:
    """Cut at the quietest tenth of a second in the last 5 s of each window.

    Args:
        samples: [samples] at 16 kHz, at least one.
        seconds: the longest that a window may be, more than 5.

    Returns:
        (first sample, [samples]) a window; together they are the whole recording.
    """
    longest = int(seconds * SAMPLE_RATE)
    windows, start = [], 0
    while len(samples) - start > longest:
        end = _quietest(samples, start + longest)
        windows.append((start, samples[start:end]))
        start = end
    windows.append((start, samples[start:]))
    return windows


def _quietest(samples: np.ndarray, end: int) -> int:
    """Middle of the quietest moment in the search range before `end`."""
    moment = int(_QUIET_SECONDS * SAMPLE_RATE)
    search = samples[end - _SEARCH_SECONDS * SAMPLE_RATE : end].astype(np.float64)
    energy = np.square(search).reshape(-1, moment).sum(axis=1)
    first = int(energy.argmin()) * moment
    return end - len(search) + first + moment // 2


def bucket_for(samples: int, buckets: tuple[int, ...] = BUCKETS) -> int:
    """The shortest bucket, in seconds, that holds so many samples, at most 30 s, and some spare."""
    return next(
        bucket
        for bucket in sorted(buckets)
        if samples <= (bucket - SPARE_SECONDS) * SAMPLE_RATE or bucket == WINDOW_SECONDS
    )


def frames_of(samples: np.ndarray) -> int:
    """The encoder's frames that hold so many samples."""
    return -(-len(samples) * FRAMES_PER_SECOND // SAMPLE_RATE)


def pad_to(samples: np.ndarray, seconds: int) -> np.ndarray:
    """Append zeros up to `seconds`: [samples] to [seconds * 16000] float32."""
    return np.pad(samples, (0, seconds * SAMPLE_RATE - len(samples))).astype(np.float32)
