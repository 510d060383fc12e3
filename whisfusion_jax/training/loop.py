"""The training loop: step, report, save."""

import contextlib
import time
from dataclasses import dataclass

import jax
import numpy as np
from jax.experimental import multihost_utils
from rich.progress import Progress

from whisfusion_jax.bundle import Bundle
from whisfusion_jax.config import DenoiserConfig, TrainConfig
from whisfusion_jax.data.batches import Batch, Plan, batches
from whisfusion_jax.evaluation.manifest import read_manifest
from whisfusion_jax.evaluation.report import make_report
from whisfusion_jax.hub import find_bundle
from whisfusion_jax.models.denoiser import Denoiser
from whisfusion_jax.parallel.mesh import make_mesh, own_share, place_rows, row_shards
from whisfusion_jax.text.shortlist import Shortlist
from whisfusion_jax.training.checkpoints import checkpoints_of
from whisfusion_jax.training.export import export_bundle
from whisfusion_jax.training.flops import step_flops
from whisfusion_jax.training.log import Log, Work
from whisfusion_jax.training.setup import (
    Beginning,
    begin,
    find_examples,
    list_unreadable,
    make_optimizer,
    step_settings,
)
from whisfusion_jax.training.step import averaged, make_step
from whisfusion_jax.training.stopping import told_to_stop
from whisfusion_jax.transcription.transcriber import Transcriber


@dataclass(frozen=True)
class Trained:
    """What a run leaves."""

    denoiser: Denoiser
    config: DenoiserConfig
    shortlist: Shortlist
    bundle: Bundle
    """The Whisper whose encoder it reads."""
    stopped: bool
    """Whether it was told to stop, and can go on."""


def train(config: TrainConfig, progress: Progress) -> Trained:
    """Train, or go on from the run's newest checkpoint.

    Raises:
        WhisfusionError: the data or the bundle can't be had, or too many steps in a row brought no
            number, or nothing can be saved.
    """
    mesh = make_mesh(config.mesh)
    bundle = Bundle.open(find_bundle(config.bundle, whole=True))
    examples = find_examples(config, bundle, progress)
    if examples.unreadable:
        progress.console.print(
            f"{len(examples.unreadable)} examples can't be read and are left out"
        )
    optimizer = make_optimizer(config.optimizer, config.steps)
    begun = begin(config, bundle, optimizer, mesh)
    plan = Plan(
        examples, config.steps, config.positions, config.canvases, config.stretch, config.seed,
        own_share(mesh), config.accumulate,
    )  # fmt: skip
    iterator = iter(batches(plan, begun.shortlist))
    with (
        checkpoints_of(config, progress.console.print) as saved,
        contextlib.closing(Log(config, progress)) as log,
        told_to_stop() as told,
    ):
        state = saved.restore(begun.state, iterator)
        # Counted here: reading the state's own number would wait for the step.
        done, end, stopped = int(state.step), 0, False

        def trained() -> Trained:
            denoiser = averaged(begun.parts, state)
            return Trained(denoiser, begun.sizes, begun.shortlist, bundle, stopped)

        for phase in config.phases:
            end += phase.steps
            until = min(end, config.stop_at or end)
            settings = step_settings(config, phase, row_shards(mesh))
            step = make_step(begun.parts.graph, begun.frozen, optimizer, settings, mesh)
            while done < until and not stopped:
                begin_waiting = time.perf_counter()
                batch: Batch = place_rows(mesh, next(iterator))
                waited = time.perf_counter() - begin_waiting
                state, metrics = step(state, batch)
                done += 1
                log.add(done, metrics, _work(config, bundle, begun, batch), waited)
                stopped = told(done)
                if done % config.save_every == 0 or done == until or stopped:
                    scores = dev_score(trained(), config) if config.dev and not stopped else {}
                    saved.save(state, iterator, scores)
                    list_unreadable(examples, config)
                    log.write(done, scores)
        return trained()


def _work(config: TrainConfig, bundle: Bundle, begun: Beginning, batch: Batch) -> Work:
    audios, n = batch.targets.tokens.shape
    tokens = audios * config.canvases * min(n, config.stretch or n)
    return Work(tokens, step_flops(config, bundle.config.model, begun.sizes, batch).model)


def dev_score(trained: Trained, config: TrainConfig) -> dict[str, float]:
    """Word error rate and mean steps on the run's dev set; leaves the bundle that it scores."""
    assert config.dev is not None
    made = export_run(trained, config)
    scores = np.zeros(2)
    if jax.process_index() == 0:
        utterances = read_manifest(config.dev)
        transcripts = Transcriber(made).transcribe_many([each.audio for each in utterances])
        summary = make_report(utterances, transcripts).summary
        scores = np.array([summary["wer"], summary["steps"]])
    wer, steps = multihost_utils.broadcast_one_to_all(scores).tolist()
    return {"dev/wer": wer, "dev/steps": steps}


def export_run(trained: Trained, config: TrainConfig) -> Bundle:
    """Write what a run has learned as its directory's bundle; the first process writes."""
    return export_bundle(
        trained.bundle, trained.denoiser, trained.config, trained.shortlist, config.work / "bundle"
    )
