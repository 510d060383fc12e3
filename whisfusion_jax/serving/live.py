"""A recording that comes as it is spoken, between a client's connection and the shared batches."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import numpy as np

from whisfusion_jax.audio.arrays import SAMPLE_RATE
from whisfusion_jax.serving.requests import Requests
from whisfusion_jax.text.tokenizer import WhisperTokenizer
from whisfusion_jax.transcription.captions import (
    Captions,
    CaptionsConfig,
    Utterance,
    rest_of,
    settled,
)
from whisfusion_jax.transcription.transcript import Transcript
from whisfusion_jax.transcription.turns import Ask
from whisfusion_jax.transcription.words import Word, joined

_BACKLOG = 30 * SAMPLE_RATE
"""Samples that may wait to be heard; who sends more is read no further until then."""
_LATE = 0.4
"""Seconds of a round that is late."""


@dataclass(frozen=True)
class Began:
    """Somebody speaks."""

    utterance: Utterance


@dataclass(frozen=True)
class Ended:
    """A pause, or the end."""

    utterance: Utterance


@dataclass(frozen=True)
class Stands:
    """Words that will not be taken back before the utterance is over."""

    utterance: Utterance
    words: list[Word]
    delta: str
    """By which `utterance.text` has grown."""


@dataclass(frozen=True)
class Guessed:
    """What is probably said behind them."""

    utterance: Utterance


@dataclass(frozen=True)
class Written:
    """All of an utterance, heard once more at leisure."""

    utterance: Utterance
    text: str
    rest: str
    """What is behind the words that stand; nothing where they are others now."""


Event = Began | Ended | Stands | Guessed | Written


class Live:
    """Captions of one client."""

    def __init__(
        self,
        requests: Requests,
        tokenizer: WhisperTokenizer,
        language: str | None,
        config: CaptionsConfig,
    ) -> None:
        self.captions = Captions(tokenizer, language, config)
        self.earlier: tuple[int, ...] = ()
        """Tokens of a text that all is written as if it followed (`Prompts.earlier`)."""
        self._requests = requests
        self._news, self._heard = asyncio.Event(), asyncio.Event()
        self._ended = self._left = False
        self._begun = self._over = 0
        """The last utterances that were said to have begun, and to be over."""

    async def add(self, samples: np.ndarray) -> None:
        """Take the next samples, [n] float32 at 16 kHz; waits where too many are there."""
        self.captions.add(samples)
        self._news.set()
        while self._waiting() > _BACKLOG and not self._left:
            self._heard.clear()
            await self._heard.wait()

    def commit(self) -> None:
        """What is being said ends here."""
        self.captions.end()
        self._news.set()

    def end(self) -> None:
        """Nothing more comes."""
        self._ended = True
        self.commit()

    async def events(self) -> AsyncIterator[Event]:
        """What becomes known, until all that came is written behind `end`.

        Raises:
            BusyError: the server is being stopped.
        """
        try:
            async for event in self._events():
                yield event
        finally:
            self._left = True
            self._heard.set()

    async def _events(self) -> AsyncIterator[Event]:
        while True:
            for event in self._voice():
                yield event
            utterance = self.captions.due()
            if utterance is None:
                if self._ended and not self.captions.open:
                    return
                await self._news.wait()
                self._news.clear()
            elif utterance.over:
                transcript = await self._written(utterance.samples, None)
                self.captions.close(utterance)
                words = settled(utterance.words, transcript.words, self.captions.config.yields)
                text = joined((word.text, word.blank) for word in words)
                yield Written(utterance, text, rest_of(utterance, words))
            else:
                window = self.captions.window(utterance)
                shown, begin = utterance.text, time.perf_counter()
                written = await self._written(window, utterance.tokens)
                self.captions.late = time.perf_counter() - begin > _LATE
                words = self.captions.take(utterance, written)
                if words:
                    yield Stands(utterance, words, utterance.text.removeprefix(shown))
                yield Guessed(utterance)
            self._heard.set()

    def _voice(self) -> list[Event]:
        found: list[Event] = []
        for utterance in self.captions.open:
            if utterance.number > self._begun:
                self._begun = utterance.number
                found.append(Began(utterance))
            if utterance.over and utterance.number > self._over:
                self._over = utterance.number
                found.append(Ended(utterance))
        return found

    async def _written(self, samples: np.ndarray, standing: tuple[int, ...] | None) -> Transcript:
        language = self.captions.language
        asked = self._requests.hear(Ask(samples, language, standing=standing, earlier=self.earlier))
        try:
            return await asyncio.wrap_future(asked)
        except asyncio.CancelledError:
            asked.cancel()
            raise

    def _waiting(self) -> int:
        return sum(len(each.samples) - each.heard for each in self.captions.open)
