"""The training loop: step, report, save."""

import dataclasses
import json
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from rich.progress import Progress, TaskID
from tensorboardX import SummaryWriter

from whisfusion_jax.bundle import Bundle
from whisfusion_jax.config import DenoiserConfig, OptimizerConfig, PhaseConfig, TrainConfig
from whisfusion_jax.data.batches import Plan, batches
from whisfusion_jax.data.encoded import Encoded, Examples, encode_examples
from whisfusion_jax.data.live import Live
from whisfusion_jax.data.sources import Augmented, Joined, Prepared, Source, Together, Wordless
from whisfusion_jax.diffusion.corruption import Ahead, Corruption, Mixed, Uniform, high_mask
from whisfusion_jax.diffusion.objective import Objective
from whisfusion_jax.errors import WhisfusionError
from whisfusion_jax.evaluation.manifest import read_manifest
from whisfusion_jax.evaluation.report import make_report
from whisfusion_jax.hub import find_bundle
from whisfusion_jax.models.denoiser import LEARNED, Denoiser, warm_denoiser
from whisfusion_jax.text.shortlist import Shortlist
from whisfusion_jax.training.checkpoints import Checkpoints
from whisfusion_jax.training.export import export_bundle
from whisfusion_jax.training.step import (
    Metrics,
    Split,
    StepSettings,
    averaged,
    make_step,
    split,
    start,
)
from whisfusion_jax.transcription.transcriber import Transcriber

REPORT_EVERY = 25
"""Steps whose metrics are averaged in one line of the log."""

_MASKING: dict[str, Corruption] = {
    "uniform": Uniform(), "high_mask": high_mask(), "ahead": Ahead()
}  # fmt: skip


@dataclass(frozen=True)
class Trained:
    """What a run leaves."""

    denoiser: Denoiser
    config: DenoiserConfig
    shortlist: Shortlist
    bundle: Bundle
    """The Whisper whose encoder it reads."""


def train(config: TrainConfig, progress: Progress) -> Trained:
    """Train, or go on from the run's newest checkpoint.

    Raises:
        WhisfusionError: the data or the bundle can't be had, or the loss is no number.
    """
    bundle = Bundle.open(find_bundle(config.bundle, whole=True))
    sizes, shortlist, parts, parameters = _beginning(config, bundle)
    examples = _examples(config, bundle, progress)
    optimizer = make_optimizer(config.optimizer, config.steps)
    plan = Plan(
        examples, config.steps, config.positions, config.canvases, config.stretch, config.seed
    )
    checkpoints = Checkpoints(config.work / "checkpoints")
    state, iterator = checkpoints.restore(
        start(parameters, optimizer), iter(batches(plan, shortlist))
    )
    memory = bundle.load_memory()
    assert memory is not None  # encoding has needed it
    log = Log(config.work / "log.jsonl", progress, config.steps)
    # Counted here: reading the state's own number would wait for the step.
    done, end = int(state.step), 0
    for phase in config.phases:
        end += phase.steps
        until = min(end, config.stop_at or end)
        if done >= until:
            continue
        step = make_step(parts, memory, optimizer, step_settings(config, phase))
        while done < until:
            batch = next(iterator)
            state, metrics = step(state, batch)
            done += 1
            audios, n = batch.targets.tokens.shape
            log.add(done, metrics, audios * config.canvases * min(n, config.stretch or n))
            if done % config.save_every == 0 or done == until:
                checkpoints.save(state, iterator)
                trained = Trained(averaged(parts, state), sizes, shortlist, bundle)
                log.write(done, dev_score(trained, config) if config.dev else {})
    checkpoints.close()
    log.close()
    return Trained(averaged(parts, state), sizes, shortlist, bundle)


def dev_score(trained: Trained, config: TrainConfig) -> dict[str, float]:
    """Word error rate and mean steps on the run's dev set; leaves the bundle that it scores."""
    assert config.dev is not None
    made = export_bundle(
        trained.bundle, trained.denoiser, trained.config, trained.shortlist, config.work / "bundle"
    )
    utterances = read_manifest(config.dev)
    transcripts = Transcriber(made).transcribe_many([each.audio for each in utterances])
    summary = make_report(utterances, transcripts).summary
    return {"dev/wer": summary["wer"], "dev/steps": summary["steps"]}


def make_optimizer(config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
    """AdamW behind clipping."""
    rate = optax.warmup_cosine_decay_schedule(
        0.0, config.rate, min(config.warmup, steps - 1), steps, config.rate * config.final
    )
    first, second = config.betas
    return optax.chain(
        optax.clip_by_global_norm(config.clip),
        optax.adamw(rate, first, second, weight_decay=config.weight_decay),
    )


def step_settings(config: TrainConfig, phase: PhaseConfig) -> StepSettings:
    """What a phase's compiled step depends on."""
    return StepSettings(
        corruption=Mixed(tuple(_MASKING[name] for name in phase.masking)),
        objective=Objective(inverse_ratio=config.inverse_ratio, teacher=config.teacher),
        canvases=config.canvases,
        average=config.optimizer.average,
        seed=config.seed,
        stretch=config.stretch,
        sample=config.sample,
    )


class Log:
    """Means over some steps: in a file, a line of JSON each, on TensorBoard, beside the bar."""

    def __init__(self, path: Path, progress: Progress, steps: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._progress = path, progress
        self._task: TaskID = progress.add_task("training", total=steps)
        self._board = SummaryWriter(str(path.parent / "tensorboard"))
        self._waiting: list[Metrics] = []
        self._tokens, self._begin = 0, time.perf_counter()

    def add(self, step: int, metrics: Metrics, tokens: int) -> None:
        """Note a step.

        Raises:
            WhisfusionError: the mean loss is no number.
        """
        self._waiting.append(metrics)
        self._tokens += tokens
        self._progress.update(self._task, completed=step)
        if step % REPORT_EVERY:
            return
        gathered = jax.device_get(self._waiting)
        means = {name: _mean([each[name] for each in gathered]) for name in gathered[0]}
        seconds = time.perf_counter() - self._begin
        if not math.isfinite(means["loss"]):
            raise WhisfusionError(f"step {step}: the loss is no number")
        measured = {name: mean for name, mean in means.items() if math.isfinite(mean)}
        speed = round(self._tokens / seconds)
        self.write(step, {"tokens_per_second": speed, **measured})
        self._progress.update(self._task, description=f"loss {means['loss']:.3f}, {speed} tokens/s")
        self._waiting, self._tokens, self._begin = [], 0, time.perf_counter()

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """Put a step's figures into the file and onto TensorBoard."""
        if not scalars:
            return
        with self._path.open("a") as file:
            file.write(json.dumps({"step": step, **scalars}) + "\n")
        for name, scalar in scalars.items():
            self._board.add_scalar(name, scalar, step)
        self._board.flush()

    def close(self) -> None:
        self._board.close()


def _mean(values: Sequence[Any]) -> float:
    """Without what was not measured in a step (NaN)."""
    known = [float(value) for value in values if np.isfinite(value)]
    return round(float(np.mean(known)), 4) if known else math.nan


def _lines(paths: Iterable[Path]) -> list[str]:
    try:
        return [line for path in paths for line in path.read_text(encoding="utf-8").splitlines()]
    except OSError as error:
        raise WhisfusionError(f"{error.filename}: {error.strerror}") from None


def _examples(config: TrainConfig, bundle: Bundle, progress: Progress) -> Examples:
    folder = config.states or config.work / "encoded"
    if config.keep_states and folder.is_dir():
        return Encoded(folder)
    source = training_source(config)
    doing = "encoding" if config.keep_states else "reading"
    track: Callable[[Iterable[int]], Iterable[int]] = lambda numbers: progress.track(  # noqa: E731
        numbers, description=doing
    )
    if config.keep_states:
        return encode_examples(source, bundle, folder, track, config.heard)
    if config.heard:
        raise WhisfusionError("heard: texts are written once, so states must be kept (keep_states)")
    return Live(source, bundle, track)


def training_source(config: TrainConfig) -> Source:
    """All examples of a run, made harder, joined, and wordless ones."""
    spoken = Together(tuple(Prepared(directory) for directory in config.data))
    joined = Joined(spoken, round(config.joined * len(spoken)), config.seed)
    wordless = Wordless(round(config.wordless * len(spoken)), config.seed)
    said = Augmented(Together((spoken, joined)), config.augmented, config.seed)
    return Together((said, wordless))


def _beginning(
    config: TrainConfig, bundle: Bundle
) -> tuple[DenoiserConfig, Shortlist, Split, nnx.State]:
    """A denoiser's sizes, its shortlist, its graph with what is frozen, and what will learn."""
    earlier = None
    if config.start is not None:
        opened = Bundle.open(find_bundle(config.start))
        earlier, shortlist = opened.load_denoiser()
        assert opened.config.denoiser is not None
        sizes = opened.config.denoiser
        if sizes.audio_width != bundle.config.model.width:
            raise WhisfusionError(f"start: {config.start} was made for another Whisper's encoder")
    else:
        shortlist = Shortlist.of_texts(_lines(config.sentences), bundle.tokenizer, config.commonest)
        if config.denoiser is None:
            sizes = DenoiserConfig.of_whisper(bundle.config.model, len(shortlist))
        else:
            sizes = dataclasses.replace(config.denoiser, vocabulary=len(shortlist))
    if config.stretch is not None and not sizes.warm:
        raise WhisfusionError("stretch: a denoiser from scratch reads whole canvases")
    if sizes.warm:
        tokens = jnp.asarray(shortlist.tokens)
        denoiser = warm_denoiser(bundle.load_decoder(), sizes, tokens, config.seed)
    else:
        denoiser = Denoiser(sizes, rngs=nnx.Rngs(config.seed))
    learned = config.learned or (LEARNED if sizes.warm else (".*",))
    parts, parameters = split(denoiser, learned)
    if earlier is not None:
        # What is frozen is Whisper's own, and not in a bundle's eight bits.
        _, parameters = split(earlier, learned)
    return sizes, shortlist, parts, parameters
