"""Examples that are encoded when a batch asks for them: nothing on disk, the encoder each time."""

from collections.abc import Callable, Iterable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from whisfusion_jax.audio.mel import SAMPLE_RATE
from whisfusion_jax.audio.windows import WINDOW_SECONDS, bucket_for, pad_to
from whisfusion_jax.bundle import Bundle
from whisfusion_jax.config import FRAMES_PER_SECOND
from whisfusion_jax.data.encoded import TOP, encode, read_row
from whisfusion_jax.data.sources import Source
from whisfusion_jax.models.encoder import Encoder
from whisfusion_jax.models.padding_memory import PaddingMemory


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
            bundle: a Whisper's, with a padding memory.
            track: wraps the numbers of the examples, for progress.
        """
        self._source = source
        self._encoder, self._memory = bundle.load_encoder(), bundle.load_memory()
        self._read = partial(
            read_row, source, tokenizer=bundle.tokenizer, model=bundle.config.model
        )
        samples, prompts, self._tokens = [], [], []
        for row in map(self._read, track(range(len(source)))):
            samples.append(len(row.samples))
            prompts.append(row.prompt)
            self._tokens.append(row.tokens)
        self.seconds = np.array(samples, np.float32) / SAMPLE_RATE
        self.bucket = np.array([bucket_for(count) for count in samples], np.int32)
        self.lengths = np.array([len(tokens) for tokens in self._tokens], np.int32)
        self.prompt = np.array(prompts, np.int32)

    def __len__(self) -> int:
        return len(self.bucket)

    def states(self, numbers: np.ndarray) -> jax.Array:
        bucket = int(self.bucket[numbers[0]])
        memory = self._memory if bucket < WINDOW_SECONDS else None
        samples = [pad_to(self._read(number).samples, bucket) for number in numbers.tolist()]
        frames = bucket * FRAMES_PER_SECOND
        return _states(self._encoder, memory, np.stack(samples), frames)

    def tokens(self, number: int) -> np.ndarray:
        return np.array(self._tokens[number], np.int32)

    def teacher(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        shape = (len(self._tokens[number]), TOP)
        return np.zeros(shape, np.int32), np.zeros(shape, np.float16)


@partial(jax.jit, static_argnames="frames")
def _states(
    encoder: Encoder, memory: PaddingMemory | None, samples: jax.Array, frames: int
) -> jax.Array:
    return encode(encoder, memory, samples).states[:, :frames].astype(jnp.float16)
