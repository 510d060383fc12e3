"""Tokens to words, each with its confidence and its times."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

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


def group_words(
    tokens: Sequence[int],
    confidences: Sequence[float],
    fixed_at: Sequence[int],
    tokenizer: WhisperTokenizer,
    when: Callable[[int, int], tuple[float, float]] | None = None,
) -> tuple[Word, ...]:
    """Tokens to words: one begins where a token begins with a blank.

    A script without blanks gives one word from blank to blank.

    Args:
        when: the seconds between which the tokens from one to before another are spoken.
    """
    begins = [i for i, token in enumerate(tokens) if not i or tokenizer.begins_word(token)]
    words = []
    for begin, end in itertools.pairwise([*begins, len(tokens)]):
        text = tokenizer.decode(tokens[begin:end]).strip()
        times = when(begin, end) if when else (None, None)
        words.append(Word(text, min(confidences[begin:end]), max(fixed_at[begin:end]), *times))
    return tuple(word for word in words if word.text)
