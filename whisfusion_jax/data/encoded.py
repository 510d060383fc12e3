"""The frozen encoder's states on disk, so that epochs cost the decoder alone.

index.npz      each example's bucket, row, length, prompt and tokens, and Whisper's probabilities
06.states ...  float16 [rows, frames, width], one file a bucket, named by its seconds

While they are being written, `data/journal.py` keeps account of them.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from whisfusion_jax.audio.arrays import SAMPLE_RATE
from whisfusion_jax.audio.windows import WINDOW_SECONDS, bucket_for, pad_to
from whisfusion_jax.bundle import Bundle
from whisfusion_jax.config import ModelConfig
from whisfusion_jax.data.index import Indexed, other_data
from whisfusion_jax.data.journal import Journal
from whisfusion_jax.data.sources import Source
from whisfusion_jax.decoding.canvas import canvas_for
from whisfusion_jax.decoding.greedy import decode_greedily
from whisfusion_jax.decoding.vocabulary import Vocabulary
from whisfusion_jax.errors import AudioError, WhisfusionError
from whisfusion_jax.models.decoder import CrossCache, Decoder
from whisfusion_jax.models.encoder import AudioEncoder, AudioStates
from whisfusion_jax.models.padding_memory import PaddingMemory
from whisfusion_jax.text.tokenizer import WhisperTokenizer

TOP = 8
"""Of Whisper's likeliest tokens at each position, so many are kept."""
_ROWS = 16
"""Examples that are encoded at once."""


class Examples(Protocol):
    """Examples by number, their audio encoded already or not."""

    bucket: np.ndarray
    """[examples] int32: seconds that the audio is padded to."""
    seconds: np.ndarray
    """[examples] float32: of the audio itself."""
    lengths: np.ndarray
    """[examples] int32: tokens with the end token."""
    prompt: np.ndarray
    """[examples, p] int32 of Whisper's tokens, with each one's language."""

    unreadable: Sequence[str]
    """What was left out, a message each."""

    def __len__(self) -> int: ...

    def audio(self, numbers: np.ndarray) -> np.ndarray:
        """Of examples that share a bucket.

        Returns:
            states, [rows, frames, width] float16, or samples, [rows, samples] float32.
        """

    def tokens(self, number: int) -> np.ndarray:
        """[length] int32 of Whisper's tokens, the end token last."""

    def teacher(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Whisper's likeliest tokens after each beginning of the text, and their probabilities.

        Returns:
            each [length, TOP]; probabilities are 0 where there is no teacher.
        """


class Encoded(Indexed):
    """Examples whose states lie on disk.

    Attributes:
        examples: of the source, those that were left out among them.
    """

    def __init__(self, folder: str | Path) -> None:
        """Open what `encode_examples` wrote.

        Raises:
            WhisfusionError: nothing is there.
        """
        self._folder = Path(folder)
        try:
            with np.load(self._folder / "index.npz") as index:
                arrays = dict(index)
        except OSError:
            raise WhisfusionError(f"{folder}: no encoded examples") from None
        super().__init__(arrays)
        self.examples = int(arrays["examples"])
        self._row, self._width = arrays["row"], int(arrays["width"])
        self._teacher = arrays["teacher_tokens"], arrays["teacher_probs"]

    def audio(self, numbers: np.ndarray) -> np.ndarray:
        bucket = int(self.bucket[numbers[0]])
        return np.stack([self._file(bucket)[self._row[number]] for number in numbers])

    def teacher(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        span = self._span(number)
        return self._teacher[0][span], self._teacher[1][span]

    def _file(self, bucket: int) -> np.ndarray:
        rows = int(self._row[self.bucket == bucket].max()) + 1
        return _mapped(self._folder / f"{bucket:02}.states", rows, self._width)


@cache
def _mapped(path: Path, rows: int, width: int) -> np.ndarray:
    return np.memmap(path, np.float16, "r").reshape(rows, -1, width)


def encode_examples(
    source: Source,
    bundle: Bundle,
    folder: str | Path,
    track: Callable[[Sequence[int]], Iterable[int]] = lambda numbers: numbers,
    heard: bool = False,
    teach: bool = True,
    heard_above: float | None = None,
) -> Encoded:
    """Run the frozen encoder over a source, once; goes on where it was killed.

    Args:
        source: of examples up to 30 s.
        bundle: a Whisper's, with a padding memory.
        folder: to be made; what is finished there stays.
        track: wraps the numbers of the examples, for progress.
        heard: keep the text that Whisper writes instead of the source's; examples of which it finds
            no end are left out.
        teach: keep what Whisper's decoder says of each text too.
        heard_above: leave out heard texts of whose tokens the mean log-probability is less.

    Raises:
        WhisfusionError: nothing can be written, or what is there is of other data.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "index.npz").is_file():
            model = bundle.config.model
            journal = Journal(folder, len(source), model.width, model.frames)
            _Writer(bundle, journal, heard, teach, heard_above).write(source, track)
    except OSError as error:
        raise WhisfusionError(f"{folder}: can't be written ({error.strerror or error})") from None
    encoded = Encoded(folder)
    if encoded.examples != len(source):
        raise other_data(folder)
    return encoded


@dataclass(frozen=True)
class Row:
    """An example, read."""

    number: int
    samples: np.ndarray
    tokens: list[int]
    """Whisper's, the end token last."""
    prompt: list[int]


def read_row(source: Source, number: int, tokenizer: WhisperTokenizer, model: ModelConfig) -> Row:
    """Read an example, at most a window of it.

    Raises:
        AudioError: it can't be read.
    """
    example = source[number]
    text = example.text.strip()
    return Row(
        number,
        example.samples[: WINDOW_SECONDS * SAMPLE_RATE],
        [*(tokenizer.encode(" " + text) if text else []), tokenizer.end],
        tokenizer.prompt(example.language if model.multilingual else None),
    )


def needed_memory(bundle: Bundle, mesh: Mesh | None = None) -> PaddingMemory | None:
    """The padding memory, where the encoder hears padding; None where it doesn't.

    Raises:
        WhisfusionError: it is needed and not there.
    """
    memory = bundle.load_memory(mesh)
    if memory is None and bundle.config.model.hears_padding:
        raise WhisfusionError(f"{bundle.path}: has no padding memory (see `whisfusion memory`)")
    return memory


class _Writer:
    """Gathers examples by bucket, and writes what is known of each."""

    def __init__(
        self,
        bundle: Bundle,
        journal: Journal,
        heard: bool,
        teach: bool,
        heard_above: float | None,
    ) -> None:
        self._heard, self._teach, self._above = heard, teach, heard_above
        self._encoder = bundle.load_encoder()
        self._decoder = bundle.load_decoder() if heard or teach else None
        self._memory = needed_memory(bundle)
        self._tokenizer, self._model = bundle.tokenizer, bundle.config.model
        self._vocabulary = Vocabulary(
            bundle.config.rules, self._tokenizer.end, self._tokenizer.no_speech
        )
        self._journal = journal

    def write(self, source: Source, track: Callable[[Sequence[int]], Iterable[int]]) -> None:
        waiting: dict[tuple[int, int], list[Row]] = defaultdict(list)
        for number in track(self._journal.missing()):
            try:
                row = read_row(source, number, self._tokenizer, self._model)
            except AudioError as error:
                self._journal.leave_out(number, str(error))
                continue
            key = bucket_for(len(row.samples)), 0 if self._heard else -(-len(row.tokens) // 32)
            waiting[key].append(row)
            if len(waiting[key]) == _ROWS:
                self._encode(key[0], waiting.pop(key))
        for key, rows in waiting.items():
            self._encode(key[0], rows)
        self._journal.finish()

    def _encode(self, bucket: int, rows: list[Row]) -> None:
        filled = rows + rows[-1:] * (_ROWS - len(rows))
        samples = np.stack([pad_to(row.samples, bucket) for row in filled])
        prompt = np.array([row.prompt for row in filled], np.int32)
        memory = self._memory if bucket < WINDOW_SECONDS else None
        lengths = np.array([len(row.samples) for row in filled], np.int32)
        audio = encode(self._encoder, memory, samples, lengths)
        if self._heard:
            filled = self._hear(audio, prompt, filled, canvas_for(bucket))
        taught, probs = self._taught(audio, prompt, filled)
        states = np.asarray(audio.without_memory(), np.float16)
        whole = [at for at, row in enumerate(filled[: len(rows)]) if row.tokens]
        for row in filled[: len(rows)]:
            if not row.tokens:
                why = "Whisper finds no end, or is unsure"
                self._journal.leave_out(row.number, f"example {row.number}: {why}")
        if not whole:
            return
        known = [
            {
                "number": filled[at].number,
                "bucket": bucket,
                "seconds": len(filled[at].samples) / SAMPLE_RATE,
                "prompt": filled[at].prompt,
                "tokens": filled[at].tokens,
                "teacher_tokens": taught[at, : len(filled[at].tokens)],
                "teacher_probs": probs[at, : len(filled[at].tokens)],
            }
            for at in whole
        ]
        self._journal.add(bucket, states[whole], known)

    def _hear(
        self, audio: AudioStates, prompt: np.ndarray, rows: list[Row], most: int
    ) -> list[Row]:
        """The rows with Whisper's own texts; without any where there is no end, or it is unsure."""
        end, decoder = self._tokenizer.end, self._decoder
        assert decoder is not None
        cross = _crossed(decoder, audio)
        written = decode_greedily(decoder, cross, prompt, self._vocabulary, most)
        tokens, logprobs = np.asarray(written.tokens), np.asarray(written.logprobs)
        lengths = np.argmax(tokens == end, axis=1) + 1
        ended = (tokens == end).any(1)
        if self._above is not None:
            said = np.arange(tokens.shape[1]) < lengths[:, None]
            ended &= np.where(said, logprobs, 0).sum(1) >= self._above * lengths
        return [
            replace(row, tokens=own[:length].tolist() if whole else [])
            for row, own, length, whole in zip(rows, tokens, lengths, ended, strict=True)
        ]

    def _taught(
        self, audio: AudioStates, prompt: np.ndarray, rows: list[Row]
    ) -> tuple[np.ndarray, np.ndarray]:
        """What the decoder says of each row's text: [rows, length, TOP] of each."""
        longest = -(-max(len(row.tokens) for row in rows) // 32) * 32
        if not self._teach:
            shape = (len(rows), longest, TOP)
            return np.zeros(shape, np.int32), np.zeros(shape, np.float16)
        tokens = np.full((len(rows), longest), self._tokenizer.end, np.int32)
        for at, row in enumerate(rows):
            tokens[at, : len(row.tokens)] = row.tokens
        assert self._decoder is not None
        taught, probs = _teach(self._decoder, audio, prompt, tokens)
        return np.asarray(taught), np.asarray(probs, np.float16)


@jax.jit
def encode(
    encoder: AudioEncoder,
    memory: PaddingMemory | None,
    samples: jax.Array,
    lengths: jax.Array | None = None,
) -> AudioStates:
    """Samples of a bucket to states (see `AudioEncoder.hear`), behind which stand the memory's.

    Args:
        lengths: [batch] int32; None is without padding, or of no matter.
    """
    if lengths is None:
        lengths = jnp.full(len(samples), samples.shape[1])
    return encoder.hear(samples, lengths, memory)


@jax.jit
def _crossed(decoder: Decoder, audio: AudioStates) -> CrossCache:
    return decoder.cross_cache(audio)


@jax.jit
def _teach(
    decoder: Decoder, audio: AudioStates, prompt: jax.Array, tokens: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Whisper's likeliest tokens at each position of a text, and their probabilities."""
    whole = jnp.concatenate([prompt, tokens[:, :-1]], axis=1)
    cache = decoder.empty_cache(*whole.shape)
    hidden, _ = decoder(whole, cache, 0, decoder.cross_cache(audio))
    logits = decoder.logits(hidden[:, prompt.shape[1] - 1 :])
    top, taught = jax.lax.top_k(logits, TOP)
    return taught, jnp.exp(top - jax.nn.logsumexp(logits, axis=-1, keepdims=True))
