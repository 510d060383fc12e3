"""Examples that each step encodes: nothing on disk, the encoder each time."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial

import numpy as np

from whisfusion_jax.audio.mel import SAMPLE_RATE
from whisfusion_jax.audio.windows import bucket_for, pad_to
from whisfusion_jax.bundle import Bundle
from whisfusion_jax.data.encoded import TOP, read_row
from whisfusion_jax.data.sources import Source
from whisfusion_jax.errors import AudioError, WhisfusionError


class Live:
    """The other kind of `Examples`. There is no teacher, as Whisper's decoder doesn't run."""

    def __init__(
        self,
        source: Source,
        bundle: Bundle,
        track: Callable[[Iterable[int]], Iterable[int]] = lambda numbers: numbers,
    ) -> None:
        """Read every example once, for its lengths.

        Args:
            bundle: a Whisper's, whose tokens are meant.
            track: wraps the numbers of the examples, for progress.
        """
        self._read = partial(
            read_row, source, tokenizer=bundle.tokenizer, model=bundle.config.model
        )
        self.unreadable: Sequence[str] = ()
        samples, prompts, self._tokens, self._numbers = [], [], list[list[int]](), list[int]()
        for number in track(range(len(source))):
            try:
                row = self._read(number)
            except AudioError as error:
                self.unreadable = (*self.unreadable, str(error))
                continue
            self._numbers.append(number)
            samples.append(len(row.samples))
            prompts.append(row.prompt)
            self._tokens.append(row.tokens)
        if not self._numbers:
            raise WhisfusionError("there is no example that can be read")
        self.seconds = np.array(samples, np.float32) / SAMPLE_RATE
        self.bucket = np.array([bucket_for(count) for count in samples], np.int32)
        self.lengths = np.array([len(tokens) for tokens in self._tokens], np.int32)
        self.prompt = np.array(prompts, np.int32)

    def __len__(self) -> int:
        return len(self.bucket)

    def audio(self, numbers: np.ndarray) -> np.ndarray:
        """As the protocol says; what can be read no more becomes silence without a text."""
        bucket = int(self.bucket[numbers[0]])
        return np.stack([pad_to(self._samples(number), bucket) for number in numbers.tolist()])

    def _samples(self, number: int) -> np.ndarray:
        try:
            return self._read(self._numbers[number]).samples
        except AudioError as error:
            self.unreadable = (*self.unreadable, str(error))
            self._tokens[number] = self._tokens[number][-1:]
            return np.zeros(0, np.float32)

    def tokens(self, number: int) -> np.ndarray:
        return np.array(self._tokens[number], np.int32)

    def teacher(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        shape = (len(self._tokens[number]), TOP)
        return np.zeros(shape, np.int32), np.zeros(shape, np.float16)
