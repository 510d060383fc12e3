"""Words with times to subtitles: cues of a few short lines, as SubRip or WebVTT."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

import pysubs2

from whisfusion_jax.errors import WhisfusionError
from whisfusion_jax.transcription.words import Word, joined

SubtitleFormat = Literal["srt", "vtt"]

_PAUSE = 1.0
"""Seconds of silence that end a cue."""
_SENTENCE_ENDS = (".", "?", "!", "…", "。", "？", "！")
_LONGEST = 7.0
"""Seconds that a cue stands, as subtitlers have it."""


@dataclass(frozen=True)
class SubtitleOptions:
    """How much is shown at once."""

    max_line_width: int = 42
    """Characters of a line of subtitles; a longer word has a line of its own."""
    max_line_count: int = 2
    """Lines of subtitles that are shown at once."""
    max_words_per_line: int | None = None
    """Words of a line of subtitles."""
    highlight_words: bool = False
    """Underline each word of a subtitle while it is spoken."""

    def __post_init__(self) -> None:
        counts = (self.max_line_width, self.max_line_count, self.max_words_per_line)
        if any(count is not None and count < 1 for count in counts):
            raise WhisfusionError("subtitles: lines, their width and words are at least 1")


USUAL = SubtitleOptions()


@dataclass(frozen=True)
class _Timed:
    """A word of a cue."""

    text: str
    start: float
    end: float
    blank: bool
    """Whether one parts it from the word before."""


Cue = list[list[_Timed]]
"""Lines of words."""


def subtitles(words: Sequence[Word], kind: SubtitleFormat, options: SubtitleOptions = USUAL) -> str:
    """A subtitle file's text.

    Args:
        words: with times, in order.

    Raises:
        WhisfusionError: the words have no times.
    """
    file = pysubs2.SSAFile()
    for cue in cues(words, options):
        file.extend(_events(cue, kind, options.highlight_words))
    return file.to_string(kind)


def cues(words: Sequence[Word], options: SubtitleOptions = USUAL) -> list[Cue]:
    """Words by cue and line: a cue ends at a pause, behind a sentence, or where it is full.

    Raises:
        WhisfusionError: the words have no times.
    """
    found: list[Cue] = []
    for word in _timed(words):
        if found and _goes_on(found[-1], word):
            if _fits(found[-1][-1], word, options):
                found[-1][-1].append(word)
                continue
            if len(found[-1]) < options.max_line_count:
                found[-1].append([word])
                continue
        found.append([[word]])
    return found


def line_of(words: Iterable[_Timed]) -> str:
    """A cue's words as a text."""
    return joined((word.text, word.blank) for word in words)


def _timed(words: Sequence[Word]) -> Iterator[_Timed]:
    for word in words:
        if word.start is None or word.end is None:
            raise WhisfusionError("subtitles need word times")
        yield _Timed(word.text, word.start, word.end, word.blank)


def _goes_on(cue: Cue, word: _Timed) -> bool:
    first, last = cue[0][0], cue[-1][-1]
    rests = word.start - last.end > _PAUSE or word.end - first.start > _LONGEST
    # Behind "i.e." there is no new sentence.
    begins = last.text.endswith(_SENTENCE_ENDS) and not word.text[:1].islower()
    return not rests and not begins


def _fits(line: Sequence[_Timed], word: _Timed, options: SubtitleOptions) -> bool:
    width = len(line_of([*line, word]))
    most = options.max_words_per_line
    return width <= options.max_line_width and (most is None or len(line) < most)


def _events(cue: Cue, kind: SubtitleFormat, highlighted: bool) -> Iterator[pysubs2.SSAEvent]:
    words = [word for line in cue for word in line]
    if not highlighted:
        yield _event(words[0].start, words[-1].end, _shown(cue, kind))
        return
    # Each word until the next: nothing overlaps, and nothing flickers.
    for number, word in enumerate(words):
        end = words[number + 1].start if number + 1 < len(words) else word.end
        if end > word.start:
            yield _event(word.start, end, _shown(cue, kind, word))


def _event(start: float, end: float, text: str) -> pysubs2.SSAEvent:
    return pysubs2.SSAEvent(start=round(1000 * start), end=round(1000 * end), text=text)


def _shown(cue: Cue, kind: SubtitleFormat, marked: _Timed | None = None) -> str:
    """A cue's text as pysubs2 takes it."""

    def one(word: _Timed) -> str:
        # Braces are pysubs2's own, and an arrow would begin another cue.
        text = word.text.replace("{", "(").replace("}", ")").replace("-->", "->")
        text = escape(text, quote=False) if kind == "vtt" else text
        return rf"{{\u1}}{text}{{\u0}}" if word is marked else text

    return r"\N".join(joined((one(word), word.blank) for word in line) for line in cue)
