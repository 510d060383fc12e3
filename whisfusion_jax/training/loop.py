"""The training loop: step, report, save."""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass

import jax
import numpy as np
from jax.experimental import multihost_utils
from rich.progress import Progress

from whisfusion_jax.bundle import Bundle
from whisfusion_jax.config import CtcConfig, DenoiserConfig, PhaseConfig, TrainConfig
from whisfusion_jax.data.batches import Batch
from whisfusion_jax.hub import find_bundle
from whisfusion_jax.models.ctc import CtcHead
from whisfusion_jax.parallel.mesh import make_mesh, row_shards
from whisfusion_jax.places import place
from whisfusion_jax.text.shortlist import Shortlist
from whisfusion_jax.training.checkpoints import checkpoints_of
from whisfusion_jax.training.export import export_bundle, export_head
from whisfusion_jax.training.feed import Kept, feed_of, list_unreadable
from whisfusion_jax.training.flops import head_step_flops, step_flops
from whisfusion_jax.training.log import Log, Work
from whisfusion_jax.training.setup import (
    Beginning,
    begin,
    make_optimizer,
    step_settings,
)
from whisfusion_jax.training.step import Learner, averaged, make_step
from whisfusion_jax.training.stopping import told_to_stop


@dataclass(frozen=True)
class Trained:
    """What a run leaves."""

    model: Learner
    config: DenoiserConfig | CtcConfig
    shortlist: Shortlist
    bundle: Bundle
    """The Whisper whose encoder it reads."""
    stopped: bool
    """Whether it was told to stop, and can go on."""


Score = Callable[[Bundle, Bundle], tuple[float, float]]
"""The run's bundle and the Whisper that it was trained on, to word error rate and mean steps."""


def train(
    config: TrainConfig,
    progress: Progress,
    score: Score | None = None,
    heard: Kept | None = None,
) -> Trained:
    """Train, or go on from the run's newest checkpoint.

    Args:
        score: asked at each save.
        heard: see `feed_of`.

    Raises:
        WhisfusionError: the data or the bundle can't be had, or too many steps in a row brought no
            number, or nothing can be saved.
    """
    mesh = make_mesh(config.mesh)
    bundle = Bundle.open(find_bundle(config.bundle, whole=True))
    optimizer = make_optimizer(config.optimizer, config.steps)
    begun = begin(config, bundle, optimizer, mesh)
    feed = feed_of(config, bundle, begun, mesh, progress, heard)
    if lost := feed.unreadable():
        progress.console.print(f"{len(lost)} examples can't be read and are left out")
    progress.console.print(feed.counts.table())
    iterator = iter(feed.dataset)
    with (
        checkpoints_of(config, progress.console.print) as saved,
        contextlib.closing(Log(config, progress, feed.counts)) as log,
        told_to_stop() as told,
    ):
        state = saved.restore(begun.state, iterator)
        # Counted here: reading the state's own number would wait for the step.
        done, end, stopped = int(state.step), 0, False

        def trained() -> Trained:
            model = averaged(begun.parts, state)
            return Trained(model, begun.sizes, begun.shortlist, bundle, stopped)

        for phase in config.phases:
            end += phase.steps
            until = min(end, config.stop_at or end)
            settings = step_settings(config, phase, row_shards(mesh))
            step = make_step(begun.parts.graph, begun.frozen, optimizer, settings, mesh)
            while done < until and not stopped:
                begin_waiting = time.perf_counter()
                batch = feed.batch(next(iterator), done)
                waited = time.perf_counter() - begin_waiting
                state, metrics = step(state, batch)
                done += 1
                log.add(done, metrics, _work(config, phase, bundle, begun, batch), waited)
                stopped = told(done)
                if done % config.save_every == 0 or done == until or stopped:
                    scores = _scores(trained(), config, score) if score and not stopped else {}
                    saved.save(state, iterator, scores)
                    list_unreadable(feed.unreadable(), config)
                    log.write(done, scores)
        return trained()


def _work(
    config: TrainConfig, phase: PhaseConfig, bundle: Bundle, begun: Beginning, batch: Batch
) -> Work:
    audios, n = batch.targets.tokens.shape
    model = bundle.config.model
    if isinstance(begun.sizes, CtcConfig):
        moments = audios * begun.sizes.moments(batch.frames(model))
        return Work(moments, head_step_flops(begun.sizes, model, batch).model)
    tokens = audios * config.canvases * phase.rounds * min(n, config.stretch or n)
    return Work(tokens, step_flops(config, phase, model, begun.sizes, batch).model)


def _scores(trained: Trained, config: TrainConfig, score: Score) -> dict[str, float]:
    """What the first process finds of the run's bundle, which is left."""
    made = export_run(trained, config)
    scores = np.zeros(2)
    if jax.process_index() == 0:
        scores = np.array(score(made, trained.bundle))
    wer, steps = multihost_utils.broadcast_one_to_all(scores).tolist()
    return {"dev/wer": wer, "dev/steps": steps}


def export_run(trained: Trained, config: TrainConfig) -> Bundle:
    """Write what a run has learned as its directory's bundle; the first process writes."""
    path = place(config.work) / "bundle"
    if isinstance(trained.model, CtcHead):
        assert isinstance(trained.config, CtcConfig)
        return export_head(trained.bundle, trained.model, trained.config, path)
    assert isinstance(trained.config, DenoiserConfig)
    head = None
    if config.drafts is not None:
        drafts = Bundle.open(find_bundle(config.drafts))
        assert drafts.config.ctc is not None  # or it would not have trained
        head = drafts.load_ctc(), drafts.config.ctc
    return export_bundle(
        trained.bundle, trained.model, trained.config, trained.shortlist, path, head
    )
