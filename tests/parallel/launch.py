"""Runs in processes of their own, on as many devices as a test wants."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from whisfusion_jax.config import TrainConfig
from whisfusion_jax.places import place

ROOT = Path(__file__).parent.parent.parent
TRAIN = ("train.py", "--config")
DUMP = ("-m", "tests.parallel.dump")


def write_config(config: TrainConfig, path: Path | None = None) -> str:
    """A Python file that builds a config; beside its work, if no path is given."""
    path = path or config.work.with_suffix(".py")
    path.write_text(
        f"from pathlib import PosixPath\nfrom whisfusion_jax.config import *\nCONFIG = {config!r}\n"
    )
    return str(path)


def launch(*arguments: str, devices: int = 1) -> subprocess.Popen[str]:
    """Start Python on some virtual devices."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, "JAX_NUM_CPU_DEVICES": str(devices), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def launch_two(*arguments: str, devices: int) -> list[subprocess.Popen[str]]:
    """Start two processes that find each other."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    together = ("--processes.coordinator", f"localhost:{port}", "--processes.count", "2")
    return [
        launch(*arguments, *together, "--processes.number", str(number), devices=devices)
        for number in range(2)
    ]


def finish(*processes: subprocess.Popen[str]) -> None:
    """Wait until they end well."""
    said = [process.communicate(timeout=600)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), "\n".join(said)


def until(happens: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Wait for something that a process is to do."""
    end = time.monotonic() + 300
    while not happens():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.05)


def losses(config: TrainConfig) -> dict[int, float]:
    """By step, as the log has them; of a step that was run twice, the later."""
    path = place(config.work) / "log.jsonl"
    if not path.exists():
        return {}
    whole, _, _ = path.read_text().rpartition("\n")
    lines = [json.loads(line) for line in whole.splitlines()]
    return {line["step"]: line["loss"] for line in lines if "loss" in line}
