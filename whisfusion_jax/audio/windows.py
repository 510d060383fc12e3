"""Windows, what is recognised at once, and the few lengths that they are padded to."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from whisfusion_jax.audio.arrays import SAMPLE_RATE
from whisfusion_jax.config import FRAMES_PER_SECOND

WINDOW_SECONDS = 30
"""What Whisper reads at once."""
BUCKETS = (6, 10, 15, 20, 30)
"""Seconds that windows are padded to where the bundle has a padding memory."""
SPARE_SECONDS = 0.5
"""Silence that a bucket keeps behind its clip: the memory stands for silence, and a word cut off
by the bucket's end may end the text there."""

Span = tuple[int, int]
"""From one sample to before another."""


@dataclass(frozen=True)
class Window:
    """What is recognised at once: a stretch of a recording without its long pauses."""

    spans: tuple[Span, ...]
    """Of the recording, in order, at least one."""
    goes_on: bool = False
    """Speech goes on behind it: the next window begins before this one ends."""

    @property
    def start(self) -> int:
        """The first sample's number."""
        return self.spans[0][0]

    @property
    def end(self) -> int:
        """That of the sample behind the last."""
        return self.spans[-1][1]

    def within(self, begin: int, end: int) -> Iterator[Span]:
        """Where a stretch of the window's own samples lies in the recording."""
        offset = 0
        for first, last in self.spans:
            inner = max(begin - offset, 0), min(end - offset, last - first)
            if inner[0] < inner[1]:
                yield first + inner[0], first + inner[1]
            offset += last - first

    def seconds(self, begin: float, end: float) -> tuple[float, float]:
        """What lies between two seconds of the window, in seconds of the recording.

        What reaches over a pause that was left out is where the larger part of it is.
        """
        parts, offset = [], 0.0
        for first, last in np.array(self.spans) / SAMPLE_RATE:
            length = last - first
            inner = np.clip((begin - offset, end - offset), 0, length)
            # What takes no time at all has no larger part, but a place.
            holds = offset <= begin <= offset + length
            parts.append((inner[1] - inner[0], holds, first + inner[0], first + inner[1]))
            offset += length
        _, _, earlier, later = max(parts)
        return float(earlier), float(later)


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
