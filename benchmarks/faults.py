"""A tiny run that is disturbed a thousand times, and has to come to the undisturbed one's end.

Faults are drawn at random: recordings that can't be read, batches that are no numbers, SIGTERM and
SIGKILL at any moment, files of the newest checkpoint cut, emptied, removed or overwritten.

python -m benchmarks.faults --faults 1000
"""

import dataclasses
import json
import multiprocessing
import os
import signal
import sys
import time
from collections import Counter
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import tyro
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from tests.training.tiny import tiny_run
from whisfusion_jax.bundle import Bundle
from whisfusion_jax.config import PhaseConfig, TrainConfig
from whisfusion_jax.data.encoded import encode_examples
from whisfusion_jax.data.sources import Example
from whisfusion_jax.errors import AudioError
from whisfusion_jax.evaluation.dev import dev_score
from whisfusion_jax.training.feed import training_source
from whisfusion_jax.training.loop import train

_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["whisfusion_jax.training.loop"])


class Damaged:
    """A source that repeats another's examples; some can't be read."""

    def __init__(self, config: TrainConfig, count: int, bad: set[int]) -> None:
        self._source, self._count, self._bad = training_source(config), count, bad

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> Example:
        if number in self._bad:
            raise AudioError(f"example {number} is damaged")
        return self._source[number % len(self._source)]


def main(faults: int = 1000, seed: int = 0, examples: int = 200) -> None:
    """Disturb, and compare.

    Args:
        faults: About so many, half of the steps; one step in two has a batch without numbers.
        seed: Of their choice.
        examples: Of the data, a quarter of which can't be read, and a sixth no numbers.
    """
    draw = np.random.default_rng(seed)
    with TemporaryDirectory() as folder:
        config, happened = prepare(Path(folder), draw, examples, steps=2 * faults)
        whole = dataclasses.replace(config, work=Path(folder) / "undisturbed")
        child = start(whole)
        child.join()
        assert child.exitcode == 0
        expected = losses(whole)
        begin = time.monotonic()
        while (step := max(read_log(config), default=0)) < config.steps:
            disturb(config, draw, happened)
            print(f"from step {step}, {time.monotonic() - begin:.0f} s", file=sys.stderr)
        skipped = ["skipped" in line for line in read_lines(config)]
        happened["batch that is no number"] = sum(skipped)
        same = losses(config) == expected
        show(happened, same, len(expected))
    if not same or happened.total() < faults:
        sys.exit(1)


def prepare(
    folder: Path, draw: np.random.Generator, examples: int, steps: int
) -> tuple[TrainConfig, Counter[str]]:
    """The run, its data damaged."""
    bad = set(draw.choice(examples, examples // 4, replace=False).tolist())
    config = dataclasses.replace(
        tiny_run(folder), phases=(PhaseConfig(steps, ("ahead", "uniform")),), dev=None,
        canvases=2, positions=2 * 16 * 2, report_every=1, save_every=10, keep=4,
        most_skipped=100, states=folder / "encoded",
    )  # fmt: skip
    source = Damaged(config, examples, bad)
    encoded = encode_examples(source, Bundle.open(config.bundle), folder / "encoded")
    assert len(encoded.unreadable) == len(bad)
    (path,) = (folder / "encoded").glob("*.states")
    states = np.memmap(path, np.float16, "r+").reshape(len(encoded), -1)
    states[draw.choice(len(encoded), examples // 6, replace=False)] = np.nan
    states.flush()
    return config, Counter({"recording that can't be read": len(bad)})


def start(config: TrainConfig) -> BaseProcess:
    child = _PROCESSES.Process(target=run, args=(config,))
    child.start()
    return child


def run(config: TrainConfig) -> None:
    """What a process does."""
    os.dup2(os.open(config.work.with_suffix(".out"), os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1)
    with Progress(disable=True) as progress:
        train(config, progress, dev_score(config.dev))


def disturb(config: TrainConfig, draw: np.random.Generator, happened: Counter[str]) -> None:
    """Start the run, and end it some steps later; perhaps tear what it saved last."""
    wanted = max(read_log(config), default=0) + int(draw.integers(1, 120))
    child = start(config)
    while child.is_alive() and max(read_log(config), default=0) < min(wanted, config.steps):
        time.sleep(0.02)
    if child.is_alive() and wanted < config.steps:
        kind = signal.SIGTERM if draw.random() < 0.3 else signal.SIGKILL
        os.kill(child.pid or 0, kind)
        begin = time.monotonic()
        child.join(30)
        assert child.exitcode in (0, -signal.SIGKILL), f"{kind.name}: {child.exitcode}"
        assert time.monotonic() - begin < 30
        happened[kind.name] += 1
    child.join()
    assert child.exitcode in (0, -signal.SIGKILL), child.exitcode
    saved = [path for path in (config.work / "checkpoints").iterdir() if path.name.isdigit()]
    saved.sort(key=lambda path: int(path.name))
    if wanted < config.steps and len(saved) > 1 and draw.random() < 0.6:
        tear(saved[-1], draw)
        happened["torn checkpoint"] += 1


def tear(checkpoint: Path, draw: np.random.Generator) -> None:
    """Damage a file of a checkpoint."""
    files = sorted(path for path in checkpoint.rglob("*") if path.is_file())
    path = files[int(draw.integers(len(files)))]
    size = path.stat().st_size
    match draw.choice(["cut", "emptied", "removed", "overwritten"]):
        case "cut":
            os.truncate(path, int(draw.integers(size + 1)))
        case "emptied":
            os.truncate(path, 0)
        case "removed":
            path.unlink()
        case _:
            path.write_bytes(draw.bytes(size))


def read_lines(config: TrainConfig) -> list[str]:
    """The log's whole lines."""
    try:
        return (config.work / "log.jsonl").read_text().splitlines(keepends=True)
    except FileNotFoundError:
        return []


def read_log(config: TrainConfig) -> dict[int, dict]:
    """By step, the latest of each."""
    rows = [json.loads(line) for line in read_lines(config) if line.endswith("\n")]
    return {row["step"]: row for row in rows}


def losses(config: TrainConfig) -> dict[int, float | None]:
    """By step; None where it was skipped."""
    return {step: row.get("loss") for step, row in sorted(read_log(config).items())}


def show(happened: Counter[str], same: bool, steps: int) -> None:
    table = Table("fault", "times")
    for name, times in happened.items():
        table.add_row(name, str(times))
    table.add_row("in all", str(happened.total()))
    Console().print(table)
    print(f"losses of all {steps} steps are {'' if same else 'NOT '}those of an undisturbed run")


if __name__ == "__main__":
    tyro.cli(main)
