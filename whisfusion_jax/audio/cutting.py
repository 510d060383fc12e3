"""A recording, read piece by piece, to windows of speech that end in pauses."""

from collections.abc import Iterable, Iterator
from itertools import chain

import numpy as np

from whisfusion_jax.audio.arrays import SAMPLE_RATE
from whisfusion_jax.audio.voice import MOMENT, speech_probabilities
from whisfusion_jax.audio.windows import Span, Window

_SPEECH, _SILENCE = 0.5, 0.35
"""Probabilities at which speech begins, and below which it ends."""
_SHORTEST = SAMPLE_RATE // 4
"""Samples of speech; what is shorter is none (Silero's own least)."""
_PAUSE = SAMPLE_RATE // 5
"""Samples of silence; what is shorter belongs to the speech around it."""
_REST = 5 * SAMPLE_RATE
"""Silence behind which another window begins, so that windows are where their text is."""
_EDGE = int(0.3 * SAMPLE_RATE)
"""What is kept of the silence on either side of speech."""
_SEARCH = 5 * SAMPLE_RATE
"""How far back from a full window's end the quietest moment is sought."""
_QUIET = SAMPLE_RATE // 10
"""Length of the moment whose loudness is compared."""

_OVERLAP = int(0.6 * SAMPLE_RATE)
"""What is heard on either side of a cut in speech, by the other window, too."""

Cut = tuple[Window, np.ndarray]
"""A window and its samples."""


def cut_windows(
    pieces: Iterable[np.ndarray],
    seconds: float,
    whole: float | None = None,
    overlap: bool = True,
) -> Iterator[Cut]:
    """Speech in windows that end in pauses; what is silent for long is in none.

    Windows come as soon as they are whole, and no more of the recording is kept than two hold.

    Args:
        pieces: of the recording, each [samples] float32 at 16 kHz.
        seconds: the longest that a window may be, more than 5.
        whole: a recording that is no longer is one window, whatever is in it; None is `seconds`.
        overlap: windows that are cut in speech, where there is no pause, overlap.
    """
    pieces = iter(pieces)
    begun: list[np.ndarray] = []
    there = 0
    for piece in pieces:
        begun.append(piece)
        there += len(piece)
        if there > (seconds if whole is None else whole) * SAMPLE_RATE:
            break
    else:
        if there:
            yield Window(((0, there),)), np.concatenate(begun)
        return
    longest = int(seconds * SAMPLE_RATE)
    around = _OVERLAP if overlap else 0
    spans: list[Span] = []
    parts: list[np.ndarray] = []
    broken = False
    for begin, end, samples, goes_on in speech_spans(chain(begun, pieces), longest - 2 * around):
        length = sum(map(len, parts))
        if spans and (length + end - begin > longest or begin - spans[-1][1] > _REST):
            overlaps = broken and around > 0
            if overlaps:
                # As much as there is room for.
                behind = min(around, max(longest - length, 0), len(samples))
                spans[-1] = spans[-1][0], begin + behind
                last = parts[-1]
                parts.append(samples[:behind])
                begin -= min(around, len(last))
                samples = np.concatenate([last[-around:], samples])
            yield Window(tuple(spans), overlaps), np.concatenate(parts)
            spans, parts = [], []
        spans.append((begin, end))
        parts.append(samples)
        broken = goes_on
    if spans:
        yield Window(tuple(spans)), np.concatenate(parts)


def speech_spans(
    pieces: Iterable[np.ndarray], longest: int
) -> Iterator[tuple[int, int, np.ndarray, bool]]:
    """Where somebody speaks, with a little of the silence around it; none overlap.

    Args:
        longest: samples; speech without a pause that is longer is cut at quiet moments.

    Yields:
        the first sample, the one behind the last, the samples, and whether speech goes on behind.
    """
    kept = _Kept()
    begin: int | None = None
    """Of the speech that may go on yet."""
    since, spoken, speaks, at = 0, 0, False, 0
    """Where it was first heard, and where it ends so far; whether somebody speaks; where the next
    moment begins."""

    def finished(end: int) -> Iterator[tuple[int, int, np.ndarray, bool]]:
        assert begin is not None
        if spoken - since < _SHORTEST:
            return
        first = begin
        for cut in (*kept.quiet_moments(begin, end, longest), end):
            yield first, cut, kept.take(first, cut), cut != end
            first = cut

    for samples, probabilities in speech_probabilities(pieces):
        kept.add(samples)
        for probability in probabilities.tolist():
            speaks = probability >= (_SILENCE if speaks else _SPEECH)
            if speaks:
                if begin is None:
                    begin, since = max(at - _EDGE, spoken and (spoken + at) // 2), at
                elif at - spoken >= _PAUSE:
                    # A silence too short for two edges is shared.
                    middle = (spoken + at) // 2
                    yield from finished(min(spoken + _EDGE, middle))
                    begin, since = max(at - _EDGE, middle), at
                spoken = min(at + MOMENT, kept.end)
                for cut in kept.quiet_moments(begin, spoken, longest):
                    yield begin, cut, kept.take(begin, cut), True
                    begin = cut
            elif begin is not None and at - spoken >= 2 * _EDGE:
                yield from finished(spoken + _EDGE)
                begin = None
            at += MOMENT
        kept.forget(at - 2 * _EDGE if begin is None else begin)
    if begin is not None:
        yield from finished(min(spoken + _EDGE, kept.end))


class _Kept:
    """The last samples of a recording, by their numbers in it."""

    def __init__(self) -> None:
        self._begin = 0
        self._samples = np.zeros(0, np.float32)

    @property
    def end(self) -> int:
        return self._begin + len(self._samples)

    def add(self, samples: np.ndarray) -> None:
        self._samples = np.concatenate([self._samples, samples])

    def forget(self, before: int) -> None:
        if before > self._begin:
            self._samples = self._samples[before - self._begin :]
            self._begin = before

    def take(self, begin: int, end: int) -> np.ndarray:
        return self._samples[begin - self._begin : end - self._begin].copy()

    def quiet_moments(self, begin: int, end: int, longest: int) -> Iterator[int]:
        """Where to cut what is longer: middles of the quietest moments before each full length."""
        while end - begin > longest:
            begin = self._quietest(begin + longest, min(_SEARCH, longest - SAMPLE_RATE))
            yield begin

    def _quietest(self, end: int, within: int) -> int:
        first = end - within // _QUIET * _QUIET
        search = self.take(first, end).astype(np.float64)
        energy = np.square(search).reshape(-1, _QUIET).sum(axis=1)
        return first + int(energy.argmin()) * _QUIET + _QUIET // 2
