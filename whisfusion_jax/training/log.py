"""What a run reports: in a file, on TensorBoard, beside the progress bar."""

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from rich.progress import Progress, TaskID
from tensorboardX import SummaryWriter

from whisfusion_jax.config import TrainConfig
from whisfusion_jax.errors import WhisfusionError
from whisfusion_jax.parallel.chips import chip_of
from whisfusion_jax.places import append, place
from whisfusion_jax.training.counts import Counts
from whisfusion_jax.training.loss import Metrics

_AHEAD = 2
"""Steps that are under way at most: enough to be busy, few enough to stop soon."""


@dataclass(frozen=True)
class Work:
    """What a step did."""

    tokens: int
    """Canvas positions read."""
    flops: float
    """That the model needs for them."""


class Log:
    """Means over some steps; of many processes, the first one writes."""

    def __init__(self, config: TrainConfig, progress: Progress, counts: Counts) -> None:
        """Open the run's log.jsonl, a line for each report, and TensorBoard's beside it.

        Args:
            counts: of the speech, for speech.json.
        """
        path = place(config.work) / "log.jsonl"
        self._path, self._progress, self._every = path, progress, config.report_every
        self._task: TaskID = progress.add_task("training", total=config.steps)
        self._writes = jax.process_index() == 0
        if self._writes:
            path.parent.mkdir(parents=True, exist_ok=True)
            (path.parent / "speech.json").write_text(counts.to_json())
            self._board = SummaryWriter(str(path.parent / "tensorboard"))
        self._most_skipped, self._skipped_in_row = config.most_skipped, 0
        self._waiting: list[Metrics] = []
        self._tokens, self._flops, self._idle = 0, 0.0, 0.0
        self._begin = time.perf_counter()

    def add(self, step: int, metrics: Metrics, work: Work, idle: float) -> None:
        """Note a step.

        Args:
            idle: seconds that it waited for its batch.

        Raises:
            WhisfusionError: too many steps in a row were skipped.
        """
        self._waiting.append(metrics)
        if len(self._waiting) > _AHEAD:
            jax.block_until_ready(self._waiting[-1 - _AHEAD])
        self._tokens += work.tokens
        self._flops += work.flops
        self._idle += idle
        self._progress.update(self._task, completed=step)
        if step % self._every == 0:
            self.report(step)

    def report(self, step: int) -> None:
        """Write the means since the last report.

        Raises:
            WhisfusionError: as `add`.
        """
        if not self._waiting:
            return
        gathered = jax.device_get(self._waiting)
        skipped = [bool(each.pop("skipped")) for each in gathered]
        means = {name: _mean([each[name] for each in gathered]) for name in gathered[0]}
        seconds = time.perf_counter() - self._begin
        speed = round(self._tokens / seconds)
        measured = {name: mean for name, mean in means.items() if math.isfinite(mean)}
        figures = {"tokens_per_second": speed, "idle": round(self._idle / seconds, 4), **measured}
        if chip := chip_of(jax.devices()[0]):
            used = self._flops / seconds / jax.device_count() / chip.flops
            figures["mfu"] = round(used, 4)
        if any(skipped):
            figures["skipped"] = sum(skipped)
        self.write(step, figures)
        shown = f"loss {means['loss']:.3f}, {speed} tokens/s, idle {self._idle / seconds:.0%}"
        self._progress.update(self._task, description=shown)
        self._waiting, self._tokens, self._flops, self._idle = [], 0, 0.0, 0.0
        self._begin = time.perf_counter()
        self._check(step, skipped)

    def _check(self, step: int, skipped: Sequence[bool]) -> None:
        for each in skipped:
            self._skipped_in_row = self._skipped_in_row + 1 if each else 0
            if self._skipped_in_row >= self._most_skipped:
                raise WhisfusionError(
                    f"step {step}: loss or gradient was no number in {self._most_skipped} steps "
                    "in a row (see most_skipped); nothing was learned from them"
                )

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """Put a step's figures into the file and onto TensorBoard."""
        if not scalars or not self._writes:
            return
        append(self._path, json.dumps({"step": step, **scalars}) + "\n")
        for name, scalar in scalars.items():
            self._board.add_scalar(name, scalar, step)
        self._board.flush()

    def close(self) -> None:
        """Write what TensorBoard has not yet."""
        if self._writes:
            self._board.close()


def _mean(values: Sequence[Any]) -> float:
    """Without what was not measured in a step (NaN)."""
    known = [float(value) for value in values if np.isfinite(value)]
    return round(float(np.mean(known)), 4) if known else math.nan
