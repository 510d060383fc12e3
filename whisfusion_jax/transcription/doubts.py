"""Texts that can't be what is said in their windows, and the windows that are written again for it.

Whisper without timestamps goes astray in three ways: it ends before the speech does, it repeats
itself without end, and it writes where nobody speaks. The first two are written again in windows of
half the length, cut in other pauses; the third is no text (docs/long_recordings.md).
"""

import zlib
from dataclasses import replace

from whisfusion_jax.audio.arrays import SAMPLE_RATE
from whisfusion_jax.audio.cutting import cut_windows, speech_spans
from whisfusion_jax.audio.windows import Window
from whisfusion_jax.transcription.pieces import Again, Doubt, Piece
from whisfusion_jax.transcription.transcript import Segment

_REPETITIVE = 2.4
"""How much smaller than a text its compressed bytes may be: OpenAI's own threshold."""
_SHORT = 2.0
"""Tokens a second of speech; people speak three, slow readers two and a half."""
_GAIN = 1.15
"""How many times as many tokens make another text of a window the better one."""
_CUTTABLE = 6 * SAMPLE_RATE
"""Samples; what is shorter is not cut again."""
_HARDLY = 1.6 * SAMPLE_RATE
"""Samples of speech, its edges included, that may be none after all."""
_NO_SPEECH, _UNSURE = 0.6, -1.0
"""Whisper's probability that nobody speaks, and its text's mean log-probability, beyond which it
is believed; OpenAI's."""


def doubt_of(segment: Segment, piece: Piece) -> Doubt | None:
    """Why a window should be written again, if it can be."""
    samples = len(piece.samples)
    if samples < _CUTTABLE:
        return None
    if repeats(segment):
        return "repeats"
    few = len(segment.tokens) * SAMPLE_RATE / _SHORT
    if few < samples and few < _spoken(piece):
        return "short"
    return None


def in_parts(piece: Piece, segment: Segment, doubt: Doubt) -> list[Piece]:
    """A window's halves, in pauses, of its own bucket, whose program is there; none if it is one.

    Args:
        segment: what was written.
    """
    seconds = max(5.5, 0.55 * len(piece.samples) / SAMPLE_RATE)
    cuts = list(cut_windows([piece.samples], seconds, whole=0, overlap=False))
    if len(cuts) < 2:
        return []
    again = Again(piece.number, segment, doubt, len(cuts))
    return [
        replace(
            piece,
            number=number,
            window=Window(
                tuple(part for span in window.spans for part in piece.window.within(*span))
            ),
            samples=samples,
            again=again,
        )
        for number, (window, samples) in enumerate(cuts)
    ]


def better_of(again: Again) -> tuple[Segment, ...]:
    """A window's parts, all written, if they are better than its first text."""
    parts = tuple(again.parts[number] for number in range(again.count))
    if again.repeats:
        return (again.first,)
    before, now = len(again.first.tokens), sum(len(part.tokens) for part in parts)
    return (again.first,) if again.doubt == "short" and now < _GAIN * before else parts


def repeats(segment: Segment) -> bool:
    """Whether a text says the same over and over."""
    raw = segment.text.encode()
    return len(raw) > _REPETITIVE * len(zlib.compress(raw)) if raw else False


def said_once(tokens: tuple[int, ...]) -> int:
    """How many tokens there are before the text begins to repeat itself to its end.

    Returns:
        all of them, if it doesn't.
    """
    count = len(tokens)
    for period in range(1, count // 3 + 1):
        same = 0
        while same < count - period and tokens[-1 - same] == tokens[-1 - same - period]:
            same += 1
        if same >= 3 * period:
            return count - same
    return count


def nobody_speaks(segment: Segment, piece: Piece) -> bool:
    """Whether Whisper thinks so, and is unsure of its text or voice activity hardly hears any."""
    if segment.no_speech_prob is None or segment.no_speech_prob < _NO_SPEECH:
        return False
    return segment.avg_logprob < _UNSURE or _spoken(piece) < _HARDLY


def _spoken(piece: Piece) -> int:
    """Samples in which somebody speaks."""
    longest = len(piece.samples)
    return sum(end - begin for begin, end, *_ in speech_spans([piece.samples], longest))
