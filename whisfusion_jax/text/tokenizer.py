"""Whisper's, Canary's, Parakeet's tokenizers, by Hugging Face's; special tokens go by name."""

import json
import re
from collections.abc import Sequence
from functools import cached_property
from itertools import chain
from typing import Literal

import numpy as np
from etils import epath
from tokenizers import Tokenizer

from whisfusion_jax.errors import WhisfusionError

Task = Literal["transcribe", "translate"]

_LANGUAGE = re.compile(r"<\|([a-z]{2,3})\|>")


def open_tokenizer(path: epath.PathLike) -> "WhisperTokenizer":
    """Read a bundle's `tokenizer.json`, local or in a bucket.

    Raises:
        WhisfusionError: the file is missing, or is no tokenizer of a known model.
    """
    try:
        tokenizer = Tokenizer.from_str(epath.Path(path).read_text())
    except Exception as error:  # the library raises bare Exception
        raise WhisfusionError(f"{path}: no readable tokenizer ({error})") from None
    if tokenizer.token_to_id("<|startofcontext|>") is not None:
        return CanaryTokenizer(tokenizer)
    whisper = tokenizer.token_to_id("<|notimestamps|>") is not None
    return (WhisperTokenizer if whisper else ParakeetTokenizer)(tokenizer)


class WhisperTokenizer:
    """Of any Whisper, English or multilingual: text tokens, the end token, other special ones."""

    of_bytes = True
    """Whether the first tokens are single bytes, of which all others are made by merges."""
    before = 0
    """Special tokens in front of the one behind which the language stands."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Take over an opened tokenizer.

        Raises:
            WhisfusionError: it has no token for the end, or the start.
        """
        self._tokenizer = tokenizer
        self.end = self.special("<|endoftext|>")
        self.start = self.special("<|startoftranscript|>")
        ids = self._tokenizer.get_vocab()
        self.languages = {
            match[1]: id_ for name, id_ in ids.items() if (match := _LANGUAGE.fullmatch(name))
        }
        """Language code to token id."""

    def special(self, *names: str) -> int:
        """The id of a special token, by the first of its names that is known.

        Raises:
            WhisfusionError: the vocabulary has none of them.
        """
        for name in names:
            if (id_ := self._tokenizer.token_to_id(name)) is not None:
                return id_
        raise WhisfusionError(f"the tokenizer has no token {' or '.join(names)}")

    @property
    def no_speech(self) -> int | None:
        """The token whose probability at the start says that nobody speaks."""
        return self.special("<|nospeech|>", "<|nocaptions|>")

    @property
    def previous(self) -> int | None:
        """The token in front of an earlier text; None where none may be given."""
        return self._tokenizer.token_to_id("<|startofprev|>")

    def prompt(self, language: str | None, task: Task = "transcribe") -> list[int]:
        """What the decoder starts from, without timestamps.

        Args:
            language: that is spoken, a code such as "de"; None for an English-only model.
            task: what is written: what is said, or what it means in English.

        Raises:
            WhisfusionError: the vocabulary has no such language.
        """
        without_timestamps = self.special("<|notimestamps|>")
        if language is None:
            return [self.start, without_timestamps]
        if language not in self.languages:
            known = " ".join(sorted(self.languages))
            raise WhisfusionError(f"language {language!r} is unknown; known are: {known}")
        return [
            self.start,
            self.languages[language],
            self.special(f"<|{task}|>"),
            without_timestamps,
        ]

    def earlier(self, text: str, most: int) -> list[int]:
        """What stands in front of a prompt: an earlier text, at most so many of its last tokens."""
        return [self.special("<|startofprev|>"), *self.encode(" " + text.strip())[-most:]]

    def encode(self, text: str) -> list[int]:
        """Text to token ids, without special tokens."""
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    @cached_property
    def merges(self) -> np.ndarray:
        """[merges, 3] int32: the two tokens that make a third; all but single bytes are made so."""
        model = json.loads(self._tokenizer.to_str())["model"]
        ids, pairs = model["vocab"], model["merges"]
        parts = np.fromiter(map(ids.__getitem__, chain.from_iterable(pairs)), np.int32)
        made = np.fromiter((ids["".join(pair)] for pair in pairs), np.int32)
        return np.column_stack([parts.reshape(-1, 2), made])

    def begins_word(self, token: int) -> bool:
        """Whether a text token begins with a blank."""
        # As byte-level vocabularies write the blank, and SentencePiece.
        return (self._tokenizer.id_to_token(token) or "").startswith(("Ġ", "▁"))

    def decode(self, tokens: Sequence[int]) -> str:
        """Token ids to text; special tokens (the end token and all above it) are left out."""
        return self._tokenizer.decode([token for token in tokens if token < self.end])


class CanaryTokenizer(WhisperTokenizer):
    """Of a Canary with the prompts of its second generation, its text tokens put first.

    NeMo's `canary2`: what came before, start, emotion, language spoken, language written, then
    punctuation, numbers, times and speakers.
    """

    of_bytes = False
    before = 2

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__(tokenizer)
        # Three letters are no language here: <|pnc|>, <|itn|>.
        self.languages = {code: id_ for code, id_ in self.languages.items() if len(code) == 2}

    @property
    def no_speech(self) -> None:
        """Not asked: its place in the prompt is another."""

    def prompt(self, language: str | None, task: Task = "transcribe") -> list[int]:
        """What the decoder starts from, without times; as `WhisperTokenizer.prompt`."""
        if language not in self.languages:
            known = " ".join(sorted(self.languages))
            raise WhisfusionError(f"language {language!r} is unknown; known are: {known}")
        return [
            self.special("<|startofcontext|>"),
            self.start,
            self.special("<|emo:undefined|>"),
            self.languages[language],
            self.languages[language if task == "transcribe" else "en"],
            *map(self.special, ("<|pnc|>", "<|noitn|>", "<|notimestamp|>", "<|nodiarize|>")),
        ]

    def earlier(self, text: str, most: int) -> list[int]:
        raise WhisfusionError("initial_prompt: Canary takes none")


class ParakeetTokenizer(WhisperTokenizer):
    """Of a Parakeet: text tokens, the end token, and one to start from; no language is named."""

    of_bytes = False

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__(tokenizer)
        self.languages = {}

    @property
    def no_speech(self) -> None:
        """There is no such token."""

    def prompt(self, language: str | None, task: Task = "transcribe") -> list[int]:
        """What a denoiser starts from, whatever language is spoken."""
        return [self.start]

    def earlier(self, text: str, most: int) -> list[int]:
        raise WhisfusionError("initial_prompt: Parakeet takes none")
