"""Speech that lies in the device's memory: each step cuts and varies it anew, and hears the text.

A few hours of anybody's speech become as many as one likes: whole utterances, several in a row or
parts of one, faster or slower (and so of other voices), through other rooms, lines and noises. What
is said in each is what Whisper itself hears, so there need be no transcript, and none goes wrong
when the sound is cut or spoiled. It pays on an accelerator, where Whisper's own decoder costs less
than reading from a disk.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Self

import grain
import jax
import jax.numpy as jnp
import numpy as np

from whisfusion_jax.audio.arrays import SAMPLE_RATE
from whisfusion_jax.config import FRAMES_PER_SECOND, CtcConfig, ModelConfig
from whisfusion_jax.data.batches import Batch
from whisfusion_jax.data.encoded import encode
from whisfusion_jax.data.sources import Example, Source
from whisfusion_jax.data.varied import varied
from whisfusion_jax.decoding.canvas import canvas_for
from whisfusion_jax.decoding.greedy import decode_greedily
from whisfusion_jax.decoding.vocabulary import Vocabulary
from whisfusion_jax.diffusion.objective import Targets
from whisfusion_jax.errors import AudioError, WhisfusionError
from whisfusion_jax.models.decoder import Decoder
from whisfusion_jax.models.encoder import AudioEncoder
from whisfusion_jax.models.padding_memory import PaddingMemory
from whisfusion_jax.parallel.mesh import WHOLE, Share
from whisfusion_jax.text.shortlist import Shortlist
from whisfusion_jax.text.tokenizer import WhisperTokenizer

_PAUSE = 0.3
"""Seconds between utterances."""
_WINDOWS = {6: 0.15, 10: 0.45, 15: 0.2, 30: 0.2}
"""How often windows of so many seconds are drawn: their canvases are all there are."""
_SPEEDS = 0.85, 1.2


@dataclass(frozen=True)
class Speech:
    """Utterances, one behind the other, those of a language together."""

    samples: np.ndarray
    """[n] int16 at 16 kHz."""
    begins: np.ndarray
    """[utterances + 1] int64: in the samples; the last is where all end."""
    prompts: np.ndarray
    """[utterances, p] int32 of Whisper's tokens."""
    unreadable: Sequence[str] = ()
    """What was left out, a message each."""

    @classmethod
    def of(
        cls,
        source: Source,
        tokenizer: WhisperTokenizer,
        model: ModelConfig,
        track: Callable[[Iterable[int]], Iterable[int]] = lambda numbers: numbers,
    ) -> Self:
        """Read a source.

        Args:
            track: wraps the numbers of the examples, for progress.

        Raises:
            WhisfusionError: no example can be read, or there are more than 37 hours.
        """
        said, unreadable = list[Example](), list[str]()
        for number in track(range(len(source))):
            try:
                said.append(source[number])
            except AudioError as error:
                unreadable.append(str(error))
        said.sort(key=lambda example: example.language)
        if not said:
            raise WhisfusionError("there is no example that can be read")
        pause = np.zeros(int(_PAUSE * SAMPLE_RATE), np.int16)
        parts = [np.append((each.samples * 32767).astype(np.int16), pause) for each in said]
        begins = np.cumsum([0, *map(len, parts)])
        if begins[-1] >= 2**31:
            raise WhisfusionError("more than 37 hours of speech don't fit into a device's memory")
        languages = [each.language if model.multilingual else None for each in said]
        prompts = np.array([tokenizer.prompt(language) for language in languages], np.int32)
        return cls(np.concatenate(parts), begins, prompts, unreadable)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Cuts:
    """Which speech a batch is of, [rows] each."""

    begin: jax.Array | np.ndarray
    """int32: the first sample."""
    length: jax.Array | np.ndarray
    """int32: samples; 0 is silence, with an empty text."""
    speed: jax.Array | np.ndarray
    """float32: how many times as fast."""
    harder: jax.Array | np.ndarray
    """bool: to be made harder to hear."""
    prompt: jax.Array | np.ndarray
    """[rows, p] int32."""
    bucket: int = field(metadata={"static": True})
    """Seconds that they are padded to."""


@dataclass(frozen=True)
class CutPlan:
    """The cuts of each step."""

    speech: Speech
    steps: int
    positions: int
    """Canvas positions, or a head's moments, that a batch reads, of all devices."""
    canvases: int
    seed: int
    augmented: float
    joined: float
    """Share of the rows that are as many utterances as fit."""
    wordless: float
    head: CtcConfig | None = None
    share: Share = WHOLE
    """What this process reads of every batch."""
    temperature: float = 0.5
    """Of languages, see `TrainConfig`."""
    batches: int | None = None
    """How many differ, see `TrainConfig.heard_batches`; None: all."""

    def __len__(self) -> int:
        return self.steps

    def number(self, step: int) -> int:
        """Which of the batches a step reads: each time around all of them, in another order."""
        if self.batches is None or step < self.batches:
            return step
        around, at = divmod(step, self.batches)
        order = np.random.default_rng([self.seed, 1, around]).permutation(self.batches)
        return int(order[at])

    def __getitem__(self, step: int) -> Cuts:
        draw = np.random.default_rng([self.seed, self.number(step)])
        bucket = int(draw.choice(list(_WINDOWS), p=list(_WINDOWS.values())))
        positions = text_positions(bucket, self.head) * self.canvases
        rows = max(1, self.positions // positions // self.share.of) * self.share.of
        begins = self.speech.begins
        first = np.searchsorted(self._chances, draw.random(rows), side="right")
        speed = draw.uniform(*_SPEEDS, size=rows)
        wanted = (draw.uniform(1, bucket, size=rows) * speed * SAMPLE_RATE).astype(np.int64)
        fitting = np.searchsorted(begins, begins[first] + wanted, side="right") - 1
        last = np.minimum(fitting, self._same_language[first])
        several = (draw.random(rows) < self.joined) & (last > first + 1)
        begin = begins[first]
        # A part of an utterance, if it is longer than what is wanted.
        whole = begins[first + 1] - begin
        begin = begin + (draw.random(rows) * np.maximum(whole - wanted, 0)).astype(np.int64)
        length = np.where(several, begins[last] - begin, np.minimum(wanted, whole))
        length = np.where(draw.random(rows) < self.wordless, 0, length)
        harder = (draw.random(rows) < self.augmented) | (length == 0)
        own = self.share.rows
        return Cuts(
            own(begin.astype(np.int32)),
            own(length.astype(np.int32)),
            own(speed.astype(np.float32)),
            own(harder),
            own(self.speech.prompts[first]),
            bucket,
        )

    @cached_property
    def _chances(self) -> np.ndarray:
        """[utterances] float64, summed up: by length, languages by temperature."""
        lengths = np.diff(self.speech.begins).astype(float)
        language = self._same_language
        of_language = np.bincount(language, lengths)[language]
        chances = np.cumsum(lengths * of_language ** (self.temperature - 1.0))
        return chances / chances[-1]

    @cached_property
    def _same_language(self) -> np.ndarray:
        """[utterances] int64: the first utterance of the next language."""
        prompts = self.speech.prompts
        changes = np.append((prompts[1:] != prompts[:-1]).any(1), True)
        ends = np.flatnonzero(changes) + 1
        return ends[np.searchsorted(ends, np.arange(len(prompts)), side="right")]


def text_positions(bucket: int, head: CtcConfig | None) -> int:
    """Of a canvas for so many seconds, or a head's moments."""
    return head.moments(bucket * FRAMES_PER_SECOND) if head else canvas_for(bucket)


def cuts(plan: CutPlan) -> grain.IterDataset:
    """The plan's cuts in order; the iterator's state can be saved."""
    return grain.MapDataset.source(plan).to_iter_dataset(
        grain.ReadOptions(num_threads=2, prefetch_buffer_size=8)
    )


@dataclass(frozen=True)
class Listener:
    """Whisper, who hears what is said in each cut."""

    samples: jax.Array
    """[n] int16: the speech's."""
    encoder: AudioEncoder
    decoder: Decoder
    memory: PaddingMemory | None
    """None where padding isn't heard."""
    spelled: jax.Array
    """[tokens, most] int32: Whisper's text tokens as the learner counts, then -1."""
    vocabulary: Vocabulary
    end: int
    """The end token as the learner counts."""
    head: CtcConfig | None
    seed: int

    @classmethod
    def of(
        cls,
        samples: jax.Array,
        encoder: AudioEncoder,
        decoder: Decoder,
        memory: PaddingMemory | None,
        vocabulary: Vocabulary,
        shortlist: Shortlist,
        head: CtcConfig | None,
        seed: int,
    ) -> Self:
        # Multilingual models have a token before the end's that no text is spelled with.
        parts = [
            shortlist.respell([token]) if shortlist.spells(token) else []
            for token in range(vocabulary.end)
        ]
        spelled = np.full((len(parts), max(map(len, parts))), -1, np.int32)
        for token, part in enumerate(parts):
            spelled[token, : len(part)] = part
        return cls(
            samples, encoder, decoder, memory, jnp.asarray(spelled), vocabulary,
            shortlist.end, head, seed,
        )  # fmt: skip

    def __call__(self, cuts: Cuts, step: int) -> Batch:
        """What a step learns from: states and texts."""
        key = jax.random.fold_in(jax.random.key(self.seed), step)
        return _hear(
            self.samples, self.encoder, self.decoder, self.memory, self.spelled, cuts, key,
            vocabulary=self.vocabulary, end=self.end,
            positions=text_positions(cuts.bucket, self.head),
        )  # fmt: skip


@partial(jax.jit, static_argnames=("vocabulary", "end", "positions"))
def _hear(
    samples: jax.Array,
    encoder: AudioEncoder,
    decoder: Decoder,
    memory: PaddingMemory | None,
    spelled: jax.Array,
    cuts: Cuts,
    key: jax.Array,
    vocabulary: Vocabulary,
    end: int,
    positions: int,
) -> Batch:
    sound = varied(samples, cuts.begin, cuts.length, cuts.speed, cuts.harder, cuts.bucket, key)
    whole = cuts.bucket == max(_WINDOWS)
    length, size = jnp.asarray(cuts.length), sound.shape[1]
    played = jnp.ceil(length / jnp.asarray(cuts.speed)).astype(jnp.int32)
    # Noise alone fills its window.
    played = jnp.where(length == 0, size, jnp.minimum(played, size))
    audio = encode(encoder, None if whole else memory, sound, played)
    most = canvas_for(cuts.bucket)
    cross, prompt = decoder.cross_cache(audio), jnp.asarray(cuts.prompt)
    written = decode_greedily(decoder, cross, prompt, vocabulary, most).tokens
    tokens, lengths = _as_learned(written, spelled, vocabulary.end, end, positions)
    wordless = length == 0
    tokens = jnp.where(wordless[:, None], end, tokens)
    lengths = jnp.where(wordless, 1, lengths)
    states = audio.without_memory().astype(jnp.float16)
    targets = Targets(tokens, lengths)
    return Batch(states, jnp.asarray(cuts.prompt), targets, played)


def _as_learned(
    written: jax.Array, spelled: jax.Array, whispers_end: int, end: int, positions: int
) -> tuple[jax.Array, jax.Array]:
    """Whisper's texts, [rows, n] with their ends, as the learner spells them.

    Returns:
        [rows, positions] int32 and [rows] int32, as `Targets` has them. A text without an end has
        as many pieces as there are places, all alike: no head's moments hold these, so it counts
        for nothing.
    """
    rows = len(written)
    inside = jnp.cumsum(written == whispers_end, axis=1) == 0
    parts = spelled[jnp.where(inside, written, 0)]
    there = (parts >= 0) & inside[..., None]
    flat, there = parts.reshape(rows, -1), there.reshape(rows, -1)
    to = jnp.where(there, jnp.cumsum(there, axis=1) - 1, positions)

    def put(parts: jax.Array, to: jax.Array) -> jax.Array:
        return jnp.full(positions, end, jnp.int32).at[to].set(parts, mode="drop")

    endless = inside.all(axis=1)
    tokens = jnp.where(endless[:, None], 0, jax.vmap(put)(flat, to))
    lengths = jnp.where(endless, positions, there.sum(axis=1)) + 1
    return tokens, jnp.minimum(lengths, positions + 1)
