"""A shortlist: the part of Whisper's vocabulary that a denoiser can write, or all of it."""

from collections.abc import Iterable, Sequence
from functools import cached_property

import numpy as np

from whisfusion_jax.config import SINGLE_BYTES
from whisfusion_jax.errors import WhisfusionError
from whisfusion_jax.text.tokenizer import WhisperTokenizer


class Shortlist:
    """Maps a denoiser's tokens, numbered from 0, to Whisper's and back.

    Attributes:
        tokens: [vocabulary] int32: Whisper's token of each of the denoiser's, ascending.
        end: the end token, as the denoiser counts.
        special: the special tokens but for the end, which are read and never written.
    """

    def __init__(self, tokens: np.ndarray, tokenizer: WhisperTokenizer) -> None:
        """Take over a bundle's shortlist.

        Raises:
            WhisfusionError: the end token is not in it.
        """
        self.tokens = np.asarray(tokens, np.int32)
        self._tokenizer = tokenizer
        self._index = {int(token): index for index, token in enumerate(self.tokens)}
        if tokenizer.end not in self._index:
            raise WhisfusionError("the shortlist lacks the end token")
        self.end = self._index[tokenizer.end]
        self.special = tuple(int(i) for i in np.flatnonzero(self.tokens > tokenizer.end))

    def __len__(self) -> int:
        return len(self.tokens)

    @classmethod
    def of_texts(
        cls, texts: Iterable[str], tokenizer: WhisperTokenizer, commonest: int = 0
    ) -> "Shortlist":
        """The tokens that some texts use, and all that any text may need.

        Args:
            texts: each is read as it follows other text, and lower-cased as well.
            commonest: take the vocabulary's first so many too; byte-pair tokens are numbered in
                the order of their frequency.
        """
        used = set(range(max(SINGLE_BYTES, commonest)))
        for text in texts:
            used.update(tokenizer.encode(" " + text))
            used.update(tokenizer.encode(" " + text.lower()))
        prompts = [tokenizer.prompt(language) for language in (None, *tokenizer.languages)]
        specials = {tokenizer.end, *(token for prompt in prompts for token in prompt)}
        if tokenizer.previous is not None:
            specials.add(tokenizer.previous)
        below = {token for token in used if token < tokenizer.end}
        return cls(np.array(sorted(below | specials), np.int32), tokenizer)

    @classmethod
    def whole(cls, vocabulary: int, tokenizer: WhisperTokenizer) -> "Shortlist":
        """All of a Whisper's tokens, numbered as there."""
        return cls(np.arange(vocabulary, dtype=np.int32), tokenizer)

    def encode(self, text: str) -> list[int]:
        """A text's tokens, as the denoiser counts; one that it lacks is taken apart."""
        return self.respell(self._tokenizer.encode(" " + text.strip()) if text.strip() else [])

    def respell(self, tokens: Sequence[int] | np.ndarray) -> list[int]:
        """Whisper's tokens as the denoiser counts; one that it lacks is taken apart."""
        return [self._index[each] for token in map(int, tokens) for each in self._known(token)]

    def spells(self, token: int) -> bool:
        """Whether one of Whisper's tokens is here, or can be taken apart."""
        return token in self._index or token in self._parts

    def _known(self, token: int) -> list[int]:
        """A token itself, or the largest of those that made it that are here."""
        if token in self._index:
            return [token]
        left, right = self._parts[token]
        return self._known(left) + self._known(right)

    @cached_property
    def _parts(self) -> dict[int, tuple[int, int]]:
        return {made: (left, right) for left, right, made in self._tokenizer.merges.tolist()}

    def lookup(self, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Whisper's tokens, of any shape, as the denoiser counts, and which of them it has."""
        at = np.minimum(np.searchsorted(self.tokens, tokens), len(self.tokens) - 1)
        return at.astype(np.int32), self.tokens[at] == tokens

    def those_of(self, tokens: Sequence[int]) -> tuple[int, ...]:
        """Those of Whisper's tokens that the denoiser has, as it counts."""
        return tuple(self._index[token] for token in tokens if token in self._index)

    def from_whisper(self, tokens: Sequence[int]) -> list[int]:
        """Whisper's tokens as the denoiser counts.

        Raises:
            WhisfusionError: one is not in the shortlist.
        """
        try:
            return [self._index[token] for token in tokens]
        except KeyError as error:
            raise WhisfusionError(f"token {error} is not in the denoiser's shortlist") from None

    def to_whisper(self, tokens: Sequence[int]) -> list[int]:
        """The denoiser's tokens as Whisper counts."""
        return self.tokens[np.asarray(tokens, np.int64)].tolist() if len(tokens) else []
