"""Texts of windows that overlap, as speech went on where they were cut, to one without a seam."""

from collections.abc import Sequence
from dataclasses import replace

from whisfusion_jax.text.tokenizer import WhisperTokenizer
from whisfusion_jax.transcription.pieces import Recording
from whisfusion_jax.transcription.transcript import Segment
from whisfusion_jax.transcription.words import Word, word_spans

_NEAR = 6
"""Words on either side of a seam that are compared."""
_BROKEN = 2
"""Of these, as many may be given up, as half of them wasn't heard."""


def settle(
    recording: Recording, number: int, segments: tuple[Segment, ...], tokenizer: WhisperTokenizer
) -> None:
    """Take over a window's text, stitched to its neighbours' where they overlap.

    It stands once those that it overlaps with are there.
    """
    written, seams = recording.written, recording.seams
    written[number] = segments
    for left in (number - 1, number):
        if left in seams and {left, left + 1} <= written.keys():
            ends = written[left][-1], written[left + 1][0]
            before, after = stitched(*ends, tokenizer, recording.language)
            written[left] = (*written[left][:-1], before)
            written[left + 1] = (after, *written[left + 1][1:])
            seams.remove(left)
    for each in (number - 1, number, number + 1):
        if each in written and each - 1 not in seams and each not in seams:
            recording.segments[each] = written.pop(each)


def stitched(
    before: Segment,
    after: Segment,
    tokenizer: WhisperTokenizer,
    language: str | None,
) -> tuple[Segment, Segment]:
    """Two segments without what both of them say, or only half of.

    They part in the middle of the words that end one and begin the other. Where there are none,
    both stay as they are: what is cut off is seldom written.

    Args:
        before: ends behind the beginning of `after`.
        language: a code; None for English.
    """
    spoken = [[_letters(word.text) for word in each.words] for each in (before, after)]
    keep, skip = _seam(*spoken)
    middle = (before.end + after.start) / 2
    cut = _first_tokens(before, tokenizer, language)[keep]
    begin = _first_tokens(after, tokenizer, language)[skip]
    first = _part(before, slice(cut), slice(keep), tokenizer)
    second = _part(after, slice(begin, None), slice(skip, None), tokenizer)
    times = [word.end for word in first.words if word.end is not None]
    words = tuple(_not_before(times[-1], word) if times else word for word in second.words)
    return replace(first, end=middle), replace(second, start=middle, words=words)


def _seam(before: Sequence[str], after: Sequence[str]) -> tuple[int, int]:
    """Words of the first to keep, and of the second to skip.

    A run that both share counts for its words, less a half for each that is given up for it.
    """
    best, found = 0.0, (len(before), 0)
    for i in range(max(0, len(before) - _NEAR), len(before)):
        for j in range(min(_BROKEN + 1, len(after))):
            run = 0
            for ours, theirs in zip(before[i:], after[j:], strict=False):
                if ours != theirs or not ours:
                    break
                run += 1
            broken = len(before) - i - run
            value = run - (broken + j) / 2
            if broken <= _BROKEN and value > best:
                half = (run + 1) // 2
                best, found = value, (i + half, j + half)
    return found


def _first_tokens(segment: Segment, tokenizer: WhisperTokenizer, language: str | None) -> list[int]:
    """Where each word begins, and the text's end."""
    spans = word_spans(segment.tokens, tokenizer, language)
    spelled = [begin for begin, end in spans if tokenizer.decode(segment.tokens[begin:end]).strip()]
    return [*spelled, len(segment.tokens)]


def _part(segment: Segment, tokens: slice, words: slice, tokenizer: WhisperTokenizer) -> Segment:
    return replace(
        segment,
        text=tokenizer.decode(segment.tokens[tokens]).strip(),
        tokens=segment.tokens[tokens],
        confidences=segment.confidences[tokens],
        fixed_at=segment.fixed_at[tokens],
        words=segment.words[words],
    )


def _not_before(time: float, word: Word) -> Word:
    if word.start is None or word.end is None:
        return word
    return replace(word, start=max(word.start, time), end=max(word.end, time))


def _letters(text: str) -> str:
    return "".join(letter for letter in text.casefold() if letter.isalnum())
