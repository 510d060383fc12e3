"""Words that are known: they stand where a text says something like them.

What is around them is masked, for a denoiser to write anew, looking both ways; or what is behind
them is left to a decoder that looks back.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from rapidfuzz import fuzz

from whisfusion_jax.decoding.denoising import FREE
from whisfusion_jax.errors import WhisfusionError
from whisfusion_jax.text.tokenizer import WhisperTokenizer
from whisfusion_jax.transcription.words import word_spans

_ALIKE = 70.0
"""Of a hundred: how much alike words must be that are taken for known ones."""
_AROUND = 3
"""Tokens on either side that are written anew where they are unsure."""
_SURE = 0.3
"""What is less probable; more than that is written no better, knowing its neighbour
(docs/long_recordings.md)."""
_KNOWN = 2.0
"""Surer than sure."""


@dataclass(frozen=True)
class Known:
    """What is known to be said."""

    text: str
    heard: str | None = None
    """What the text says instead; None is what is most like it."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """`Leominster`, or, with what the text says instead, `Lemster=Leominster`.

        Raises:
            WhisfusionError: there are no words.
        """
        heard, equals, known = text.rpartition("=")
        if not _letters(known) or (equals and not _letters(heard)):
            raise WhisfusionError(f"fix {text!r}: words that are known, or HEARD=KNOWN")
        return cls(known.strip(), heard.strip() if equals else None)


@dataclass(frozen=True)
class Placed:
    """A text with known words in their places."""

    tokens: list[int]
    last: int
    """Where the last known word ends."""
    doubted: np.ndarray
    """[tokens] bool: unsure, and near a known word."""

    def masked(self) -> list[int]:
        """With FREE for what is doubted."""
        pairs = zip(self.tokens, self.doubted.tolist(), strict=True)
        return [FREE if doubted else token for token, doubted in pairs]

    def begun(self) -> list[int]:
        """Up to what is doubted behind the last known word, and FREE."""
        behind = np.flatnonzero(self.doubted[self.last :])
        return [*self.tokens[: self.last + behind[0] if len(behind) else None], FREE]


def with_known(
    tokens: Sequence[int],
    confidences: Sequence[float],
    known: Sequence[Known],
    tokenizer: WhisperTokenizer,
    language: str | None,
) -> Placed | None:
    """Put known words where a text says something like them; None if it says nothing like any.

    Args:
        tokens: what was written,
        confidences: and how sure.
        language: a code; None for English.
    """
    spans = word_spans(tokens, tokenizer, language)
    texts = [tokenizer.decode(tokens[begin:end]) for begin, end in spans]
    canvas: list[tuple[int, float]] = []
    at = 0
    written = list(zip(tokens, confidences, strict=True))
    for first, last, text in sorted(_places(known, texts)):
        begin, end = spans[first][0], spans[last - 1][1]
        if begin >= at:
            new = tokenizer.encode(_as_written(text, "".join(texts[first:last])))
            canvas += [*written[at:begin], *((token, _KNOWN) for token in new)]
            at = end
    if not at:
        return None
    canvas += written[at:]
    sure = np.array([confidence for _, confidence in canvas])
    places = np.flatnonzero(sure == _KNOWN)
    far = np.abs(np.arange(len(sure))[:, None] - places).min(axis=1)
    doubted = (far <= _AROUND) & (sure < _SURE)
    return Placed([token for token, _ in canvas], int(places[-1]) + 1, doubted)


def _places(known: Sequence[Known], texts: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    """The first word of each known one's place, the one behind it, and what stands there."""
    for each in known:
        wanted = _letters(each.heard or each.text)
        likeness, first, last = max(
            (
                (fuzz.ratio(wanted, said), -first, last)
                for first in range(len(texts))
                for last, said in _growing(texts, first, len(wanted))
            ),
            default=(0.0, 0, 0),
        )
        there = "".join(texts[-first:last])
        stands = each.text in there and _letters(each.text) == _letters(there)
        if likeness >= (100 if each.heard else _ALIKE) and not stands:
            yield -first, last, each.text


def _growing(texts: Sequence[str], first: int, letters: int) -> Iterator[tuple[int, str]]:
    """Runs of words from one on, as letters, as long as they are not much longer than so many."""
    said = ""
    for last in range(first + 1, len(texts) + 1):
        said += _letters(texts[last - 1])
        if len(said) > 1.5 * letters + 2:
            return
        yield last, said


def _letters(text: str) -> str:
    return "".join(letter for letter in text.casefold() if letter.isalnum())


def _as_written(text: str, before: str) -> str:
    """Known words with what stood around those before them: a blank, quotes, a full stop."""
    inner = [place for place, letter in enumerate(before) if letter.isalnum()]
    return before[: inner[0]] + text + before[inner[-1] + 1 :]
