"""Encoded examples to training batches of few shapes: a Grain pipeline over a plan of batches."""

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property, lru_cache

import grain
import jax
import numpy as np

from whisfusion_jax.audio.arrays import SAMPLE_RATE
from whisfusion_jax.config import FRAMES_PER_SECOND, CtcConfig, ModelConfig
from whisfusion_jax.data.encoded import TOP, Examples
from whisfusion_jax.decoding.canvas import CANVASES, canvas_for
from whisfusion_jax.decoding.drafts import Draft
from whisfusion_jax.diffusion.objective import Targets
from whisfusion_jax.parallel.mesh import WHOLE, Share
from whisfusion_jax.text.shortlist import Shortlist


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Batch:
    """What a training step reads."""

    audio: jax.Array | np.ndarray
    """[batch, frames, width] float16 states, without the padding memory; or [batch, samples]
    float32, to be encoded."""
    prompt: jax.Array | np.ndarray
    """[batch, p] int32: start, language and task tokens, as the denoiser counts."""
    targets: Targets
    lengths: jax.Array | np.ndarray
    """[batch] int32: samples of each audio that are no padding."""
    draft: Draft | None = None
    """A step's own, where canvases begin with it."""

    def frames(self, model: ModelConfig) -> int:
        """Of the encoder, in each audio."""
        length = self.audio.shape[1]
        return length if self.audio.ndim == 3 else model.frames(length // SAMPLE_RATE)


@dataclass(frozen=True)
class Plan:
    """Which examples make which batch: each epoch all of them, alike ones together, shuffled.

    A batch has one bucket and one canvas length, and as many audios as bring about
    `positions` canvas positions to be read, so that batches cost about the same.
    """

    encoded: Examples
    steps: int
    positions: int
    canvases: int
    """Of each audio."""
    stretch: int | None = None
    """Positions that are read of a canvas; None is all."""
    seed: int = 0
    share: Share = WHOLE
    """What this process reads of every batch."""
    parts: int = 1
    """In which a batch is read (gradient accumulation)."""
    head: CtcConfig | None = None
    """Learns by moments of the audio, as many as texts' positions; None is a denoiser."""
    by_bucket: bool = False
    """Canvases as long as the bucket's audio asks for, as in decoding: for a denoiser that sees its
    masks, to which their number is a hint."""
    temperature: float = 1.0
    """Of languages, see `TrainConfig`."""

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> np.ndarray:
        """Numbers of this process's examples of the batch of one step."""
        epoch, batch = divmod(step, self.batches)
        return self.share.rows(_epoch(self, epoch)[batch])

    @cached_property
    def _groups(self) -> dict[tuple[int, int], np.ndarray]:
        """Examples by bucket and canvas; those too long for any canvas are left out."""
        groups = defaultdict(list)
        encoded = self.encoded
        for number in range(len(encoded)):
            length = int(encoded.lengths[number])
            if length <= CANVASES[-1]:
                canvas = self.canvas(number)
                groups[int(encoded.bucket[number]), canvas].append(number)
        return {key: np.array(numbers) for key, numbers in sorted(groups.items())}

    @cached_property
    def _shares(self) -> np.ndarray:
        """[examples]: how often each is drawn, beside the others: by its prompt's language."""
        _, which, count = np.unique(
            self.encoded.prompt, axis=0, return_inverse=True, return_counts=True
        )
        return (count ** (self.temperature - 1.0))[which.ravel()]

    def canvas(self, number: int) -> int:
        """An example's canvas length, or its moments."""
        if self.head is not None:
            return self.head.moments(int(self.encoded.bucket[number]) * FRAMES_PER_SECOND)
        seconds = (self.encoded.bucket if self.by_bucket else self.encoded.seconds)[number]
        length = self.encoded.lengths[number]
        return canvas_for(float(seconds), int(length))

    def audios(self, canvas: int) -> int:
        """In a batch of this canvas length, so that all devices have as many in each part."""
        fits = self.positions // (min(canvas, self.stretch or canvas) * self.canvases)
        equal = self.share.of * self.parts
        return max(1, fits // equal) * equal

    @cached_property
    def batches(self) -> int:
        """In an epoch."""
        return sum(-(-len(n) // self.audios(canvas)) for (_, canvas), n in self._groups.items())

    def epoch(self, epoch: int) -> list[np.ndarray]:
        """All batches of an epoch, in their order."""
        draw = np.random.default_rng([self.seed, epoch])
        batches = []
        for (_, canvas), numbers in self._groups.items():
            size = self.audios(canvas)
            # The last batch of a shape is filled up from the start.
            drawn = evenly(draw, draw.permutation(numbers), self._shares)
            filled = np.resize(drawn, -(-len(numbers) // size) * size)
            batches += list(filled.reshape(-1, size))
        return [batches[i] for i in draw.permutation(len(batches))]


def evenly(draw: np.random.Generator, numbers: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """As many again, each as often as its share says, give or take one; all once if they are equal.

    Args:
        shares: by number.
    """
    ends = np.cumsum(shares[numbers])
    points = (draw.random() + np.arange(len(numbers))) / len(numbers)
    return numbers[np.searchsorted(ends / ends[-1], points)]


@lru_cache(maxsize=2)
def _epoch(plan: Plan, epoch: int) -> list[np.ndarray]:
    return plan.epoch(epoch)


def load_batch(numbers: np.ndarray, plan: Plan, shortlist: Shortlist) -> Batch:
    """Read a batch, in the denoiser's tokens."""
    encoded = plan.encoded
    audio = encoded.audio(numbers)
    canvas = max(map(plan.canvas, numbers.tolist()))
    tokens = np.full((len(numbers), canvas), shortlist.end, np.int32)
    taught = np.zeros((len(numbers), canvas, TOP), np.int32)
    probs = np.zeros((len(numbers), canvas, TOP), np.float32)
    lengths = np.zeros(len(numbers), np.int32)
    for row, number in enumerate(numbers.tolist()):
        known = encoded.tokens(number)
        own = shortlist.respell(known)[:canvas]
        if len(own) == len(known):  # nothing is spelled, so the teacher's positions are ours
            names, chances = encoded.teacher(number)
            taught[row, : len(known)], inside = shortlist.lookup(names)
            probs[row, : len(known)] = chances * inside
        tokens[row, : len(own)] = own
        lengths[row] = len(own)
    prompts = [
        shortlist.from_whisper(encoded.prompt[number].tolist()) for number in numbers.tolist()
    ]
    targets = Targets(tokens, lengths, taught, probs)
    samples = np.round(encoded.seconds[numbers] * SAMPLE_RATE).astype(np.int32)
    return Batch(audio, np.array(prompts, np.int32), targets, samples)


def batches(plan: Plan, shortlist: Shortlist) -> grain.IterDataset:
    """The pipeline: batches in the plan's order, read ahead by threads; its state can be saved."""
    return (
        grain.MapDataset.source(plan)
        .map(lambda numbers: load_batch(numbers, plan, shortlist))
        .to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=4))
    )
