"""Runs of train.py in processes of their own, as many devices as a test wants."""

import json
import os
import subprocess
import sys
from pathlib import Path

from whisfusion_jax.config import TrainConfig

ROOT = Path(__file__).parent.parent.parent


def write_config(config: TrainConfig) -> Path:
    """A Python file that builds a config."""
    path = config.work.with_suffix(".py")
    path.write_text(
        f"from pathlib import PosixPath\nfrom whisfusion_jax.config import *\nCONFIG = {config!r}\n"
    )
    return path


def launch(config: TrainConfig, *flags: str, devices: int = 1) -> subprocess.Popen[str]:
    """Start train.py on some virtual devices."""
    return subprocess.Popen(
        [sys.executable, "train.py", "--config", str(write_config(config)), *flags],
        cwd=ROOT,
        env={**os.environ, "JAX_NUM_CPU_DEVICES": str(devices), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(*processes: subprocess.Popen[str]) -> None:
    """Wait until they end well."""
    for process in processes:
        said, _ = process.communicate(timeout=600)
        assert process.returncode == 0, said


def losses(config: TrainConfig) -> dict[int, float]:
    """By step, as the log has them; a step that was run twice counts once."""
    lines = map(json.loads, (config.work / "log.jsonl").read_text().splitlines())
    return {line["step"]: line["loss"] for line in lines if "loss" in line}
