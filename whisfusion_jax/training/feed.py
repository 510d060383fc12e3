"""A run's data, out of its config: examples encoded earlier, or by each step, or heard by it."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import grain
import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh
from rich.progress import Progress

from whisfusion_jax.audio.arrays import SAMPLE_RATE
from whisfusion_jax.bundle import Bundle
from whisfusion_jax.config import DenoiserConfig, TrainConfig
from whisfusion_jax.data.batches import Batch, Plan, batches
from whisfusion_jax.data.encoded import Encoded, Examples, encode_examples
from whisfusion_jax.data.listening import CutPlan, Cuts, Listener, Speech, cuts
from whisfusion_jax.data.live import Live
from whisfusion_jax.data.sources import (
    Augmented,
    Joined,
    Listed,
    Prepared,
    Source,
    Together,
    Wordless,
)
from whisfusion_jax.decoding.vocabulary import Vocabulary
from whisfusion_jax.parallel.mesh import own_share, place_rows, replicated
from whisfusion_jax.places import brought, place, put
from whisfusion_jax.training.counts import Counts, count_speech
from whisfusion_jax.training.setup import Beginning

Kept = dict[int, Batch]
"""Batches that were heard, by number, in the device's memory."""

_LINE_SECONDS = 60
"""Between lines of progress where there is no terminal."""


@dataclass(frozen=True)
class Feed:
    """What the steps read, one after the other."""

    dataset: grain.IterDataset
    """Whose iterator's state can be saved."""
    batch: Callable[[Any, int], Batch]
    """What the dataset gives for a step, and the step's number, to arrays on the mesh."""
    unreadable: Callable[[], Sequence[str]]
    """What was left out so far, a message each."""
    counts: Counts
    """Of what it draws from."""


def feed_of(
    config: TrainConfig,
    bundle: Bundle,
    begun: Beginning,
    mesh: Mesh,
    progress: Progress,
    heard: Kept | None = None,
) -> Feed:
    """Find or make a run's data.

    Args:
        heard: batches that another run of the same data has heard, and that this one may add to,
            with `heard_batches`.

    Raises:
        WhisfusionError: there is none, or it can't be written.
    """
    if config.heard and not config.keep_states:
        return _heard(config, bundle, begun, mesh, progress, {} if heard is None else heard)
    examples = find_examples(config, bundle, progress)
    plan = Plan(
        examples, config.steps, config.positions, config.canvases, config.stretch, config.seed,
        own_share(mesh), config.accumulate, head=config.ctc,
        by_bucket=isinstance(begun.sizes, DenoiserConfig) and begun.sizes.sees_all,
        temperature=config.temperature,
    )  # fmt: skip
    return Feed(
        batches(plan, begun.shortlist),
        lambda batch, step: place_rows(mesh, batch),
        lambda: examples.unreadable,
        count_speech(
            config, _sizes(config), len(examples.unreadable), examples.prompt, examples.seconds,
            bundle.tokenizer,
        ),
    )  # fmt: skip


def _heard(
    config: TrainConfig,
    bundle: Bundle,
    begun: Beginning,
    mesh: Mesh,
    progress: Progress,
    heard: Kept,
) -> Feed:
    reading = partial(tracked, progress, description="reading")
    tokenizer, model = bundle.tokenizer, bundle.config.model
    speech = Speech.of(spoken(config), tokenizer, model, reading)
    plan = CutPlan(
        speech, config.steps, config.positions, config.canvases, config.seed, config.augmented,
        config.joined, config.wordless, config.ctc, own_share(mesh), config.temperature,
        config.heard_batches,
    )  # fmt: skip
    assert begun.frozen.encoder is not None
    listener = Listener.of(
        jax.device_put(speech.samples, replicated(mesh)),
        begun.frozen.encoder,
        bundle.load_decoder(jnp.dtype(config.dtype), mesh),
        begun.frozen.memory,
        Vocabulary(bundle.config.rules, tokenizer.end, tokenizer.no_speech),
        begun.shortlist,
        config.ctc,
        config.seed,
    )

    def batch(drawn: Cuts, step: int) -> Batch:
        number = plan.number(step)
        if number in heard:
            return heard[number]
        new = listener(place_rows(mesh, drawn), number)
        if config.heard_batches is not None:
            heard[number] = new
        return new

    seconds = np.diff(speech.begins) / SAMPLE_RATE
    counts = count_speech(
        config, _sizes(config), len(speech.unreadable), speech.prompts, seconds, tokenizer
    )
    return Feed(cuts(plan), batch, lambda: speech.unreadable, counts)


def _sizes(config: TrainConfig) -> dict[str, int]:
    """How many examples each set has."""
    return {str(path): len(_set(path)) for path in config.data}


def find_examples(config: TrainConfig, bundle: Bundle, progress: Progress) -> Examples:
    """The run's examples: encoded, now or earlier, or to be encoded by each step.

    Many processes encode nothing together: the first one does it all.
    """
    if not config.keep_states:
        reading = partial(tracked, progress, description="reading")
        index = place(config.states or config.work) / "examples.npz"
        return Live(training_source(config), bundle, index, reading)
    folder = place(config.states or config.work / "encoded")
    if jax.process_index() == 0:
        encoding = partial(tracked, progress, description="encoding")
        teach = config.teacher > 0
        encode_examples(
            training_source(config), bundle, brought(folder), encoding, config.heard, teach,
            config.heard_above,
        )  # fmt: skip
        put(folder, last="index.npz")
    multihost_utils.sync_global_devices("examples are encoded")
    return Encoded(brought(folder))


def tracked(progress: Progress, numbers: Sequence[int], description: str) -> Iterator[int]:
    """Go through numbers with a bar; where there is no terminal, with a line a minute."""
    said = begin = time.monotonic()
    for count, number in enumerate(progress.track(numbers, description=description), start=1):
        yield number
        now = time.monotonic()
        if not progress.console.is_terminal and (now > said + _LINE_SECONDS):
            said, left = now, (now - begin) / count * (len(numbers) - count)
            done = f"{description}: {count} of {len(numbers)}, {left / 60:.0f} minutes to go"
            print(done, file=sys.stderr, flush=True)


def list_unreadable(unreadable: Sequence[str], config: TrainConfig) -> None:
    """Name what this process could not read in the run's directory."""
    if unreadable:
        work = place(config.work)
        work.mkdir(parents=True, exist_ok=True)
        path = work / f"unreadable.{jax.process_index()}.txt"
        path.write_text("\n".join(unreadable) + "\n")


def training_source(config: TrainConfig) -> Source:
    """All examples of a run, made harder, joined, and wordless ones."""
    plain = spoken(config)
    joined = Joined(plain, round(config.joined * len(plain)), config.seed)
    wordless = Wordless(round(config.wordless * len(plain)), config.seed)
    said = Augmented(Together((plain, joined)), config.augmented, config.seed)
    return Together((said, wordless))


def spoken(config: TrainConfig) -> Source:
    """A run's speech as it was recorded."""
    return Together(tuple(_set(path) for path in config.data))


def _set(path: Path) -> Source:
    return Listed(path) if place(path).is_file() else Prepared(brought(path))
