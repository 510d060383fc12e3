"""Tokens to words, each with its confidence and its times."""

import itertools
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from whisfusion_jax.text.scripts import UNSPACED
from whisfusion_jax.text.tokenizer import WhisperTokenizer


@dataclass(frozen=True)
class Word:
    """A word as it is written, with punctuation."""

    text: str
    confidence: float
    """The least of its tokens' probabilities."""
    fixed_at: int
    """The step that wrote its last token."""
    start: float | None = None
    """Seconds from the recording's start; None unless word times are asked for."""
    end: float | None = None
    blank: bool = True
    """Whether a blank parts it from the word before."""


def group_words(
    tokens: Sequence[int],
    confidences: Sequence[float],
    fixed_at: Sequence[int],
    tokenizer: WhisperTokenizer,
    language: str | None = None,
    when: Callable[[int, int], tuple[float, float]] | None = None,
) -> tuple[Word, ...]:
    """Tokens to words.

    Args:
        language: as in `word_spans`.
        when: the seconds between which the tokens from one to before another are spoken.
    """
    words = []
    for begin, end in word_spans(tokens, tokenizer, language):
        text = tokenizer.decode(tokens[begin:end])
        start, stop = when(begin, end) if when else (None, None)
        blank = language not in UNSPACED or text.startswith(" ")
        sure, at = min(confidences[begin:end]), max(fixed_at[begin:end])
        words.append(Word(text.strip(), sure, at, start, stop, blank))
    return tuple(word for word in words if word.text)


def word_spans(
    tokens: Sequence[int], tokenizer: WhisperTokenizer, language: str | None
) -> list[tuple[int, int]]:
    """Words, from one token to before another: one begins where a token begins with a blank.

    In scripts without blanks one begins with each token that whole letters come before, but for
    closing punctuation (openai/whisper does likewise).

    Args:
        language: a code; None for English.
    """
    if language in UNSPACED:
        begins = _letters(tokens, tokenizer)
    else:
        begins = [i for i, token in enumerate(tokens) if not i or tokenizer.begins_word(token)]
    return list(itertools.pairwise([*begins, len(tokens)]))


def joined(words: Iterable[tuple[str, bool]]) -> str:
    """Words, and whether a blank parts each from the one before, to a text."""
    return "".join(" " * blank + text for text, blank in words).strip()


def _letters(tokens: Sequence[int], tokenizer: WhisperTokenizer) -> list[int]:
    """Where tokens begin whole letters that close nothing."""
    begins: list[int] = []
    begin = 0
    for end in range(1, len(tokens) + 1):
        text = tokenizer.decode(tokens[begin:end])
        # A letter may take several tokens.
        if text.endswith("\ufffd") and end < len(tokens):
            continue
        if not begins or not all(_closes(letter) for letter in text.strip()):
            begins.append(begin)
        begin = end
    return begins


def _closes(letter: str) -> bool:
    return unicodedata.category(letter) in ("Po", "Pe", "Pf")
