"""Cutting recordings into windows, and windows into buckets of few lengths."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from whisfusion_jax.audio.mel import SAMPLE_RATE
from whisfusion_jax.audio.voice import MOMENT, speech_probability
from whisfusion_jax.config import FRAMES_PER_SECOND

WINDOW_SECONDS = 30
"""What Whisper reads at once."""
BUCKETS = (6, 10, 15, 20, 30)
"""Seconds that windows are padded to where the bundle has a padding memory."""
SPARE_SECONDS = 0.5
"""Silence that a bucket keeps behind its clip: the memory stands for silence, and a word cut off
by the bucket's end may end the text there."""

_SPEECH, _SILENCE = 0.5, 0.35
"""Probabilities at which speech begins, and below which it ends."""
_PAUSE_SECONDS = 0.2
"""Silence that is shorter belongs to the speech around it."""
_REST_SECONDS = 5
"""Silence behind which another window begins, so that windows are where their text is."""
_EDGE_SECONDS = 0.3
"""What is kept of the silence on either side of speech."""
_SEARCH_SECONDS = 5
"""How far back from a full window's end the quietest moment is sought."""
_QUIET_SECONDS = 0.1
"""Length of the moment whose loudness is compared."""

Span = tuple[int, int]
"""From one sample to before another."""


@dataclass(frozen=True)
class Window:
    """What is recognised at once: a stretch of a recording without its long pauses."""

    spans: tuple[Span, ...]
    """Of the recording, in order, at least one."""

    @property
    def start(self) -> int:
        """The first sample's number."""
        return self.spans[0][0]

    @property
    def end(self) -> int:
        """That of the sample behind the last."""
        return self.spans[-1][1]

    def samples(self, recording: np.ndarray) -> np.ndarray:
        """Its own out of the recording's, [samples]."""
        return np.concatenate([recording[begin:end] for begin, end in self.spans])

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


def cut_windows(samples: np.ndarray, seconds: float, whole: float | None = None) -> list[Window]:
    """Speech in windows that end in pauses; what is silent for long is in none.

    Args:
        samples: [samples] at 16 kHz.
        seconds: the longest that a window may be, more than 5.
        whole: a recording that is no longer is one window, whatever is in it; None is `seconds`.
    """
    longest = int(seconds * SAMPLE_RATE)
    if len(samples) <= (seconds if whole is None else whole) * SAMPLE_RATE:
        return [Window(((0, len(samples)),))]
    windows: list[list[Span]] = []
    room, last = 0, 0
    for span in speech_spans(samples):
        for begin, end in _short_enough(samples, span, longest):
            if end - begin > room or begin - last > _REST_SECONDS * SAMPLE_RATE:
                windows.append([])
                room = longest
            windows[-1].append((begin, end))
            room -= end - begin
            last = end
    return [Window(tuple(spans)) for spans in windows]


def speech_spans(samples: np.ndarray) -> list[Span]:
    """Where somebody speaks, with a little of the silence around it; none overlap."""
    edge, pause = int(_EDGE_SECONDS * SAMPLE_RATE), _PAUSE_SECONDS * SAMPLE_RATE
    found: list[list[int]] = []
    speaks = False
    for number, probability in enumerate(speech_probability(samples)):
        spoke, speaks = speaks, probability >= (_SILENCE if speaks else _SPEECH)
        begin, end = number * MOMENT, min((number + 1) * MOMENT, len(samples))
        if not speaks:
            continue
        if spoke or (found and begin - found[-1][1] < pause):
            found[-1][1] = end
        else:
            found.append([begin, end])
    if not found:
        return []
    begins, ends = np.array(found).T
    # A silence too short for two edges is shared.
    middles = (ends[:-1] + begins[1:]) // 2
    begins = np.maximum(begins - edge, np.append(0, middles))
    ends = np.minimum(ends + edge, np.append(middles, len(samples)))
    return list(zip(begins.tolist(), ends.tolist(), strict=True))


def _short_enough(samples: np.ndarray, span: Span, longest: int) -> Iterator[Span]:
    """Speech without a pause, cut at quiet moments where it is too long for a window."""
    begin, end = span
    while end - begin > longest:
        cut = _quietest(samples, begin + longest)
        yield begin, cut
        begin = cut
    yield begin, end


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
