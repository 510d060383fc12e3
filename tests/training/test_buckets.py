"""A run whose data, states, checkpoints and logs lie in a bucket."""

import dataclasses
import signal
from pathlib import Path

import pytest
from rich.progress import Progress

from tests.buckets import emulated
from tests.parallel.launch import TRAIN, finish, launch, losses, until, write_config
from tests.training.tiny import tiny_run
from whisfusion_jax.bundle import Bundle
from whisfusion_jax.config import PhaseConfig
from whisfusion_jax.places import place, replace
from whisfusion_jax.training.loop import train


def test_a_run_that_is_killed_three_times_on_a_bucket_ends_as_if_nothing_had_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = dataclasses.replace(
        tiny_run(tmp_path), phases=(PhaseConfig(16, ("ahead", "uniform")),), dev=None, canvases=2,
        positions=16 * 2, report_every=1, save_every=2,
    )  # fmt: skip
    with Progress(disable=True) as progress:
        train(config, progress)
    with emulated("gs") as bucket:
        replace(f"{bucket}/data", config.data[0], last="dataset_info.json")
        away = dataclasses.replace(
            config,
            work=Path(f"{bucket}/run"),
            states=Path(f"{bucket}/states"),
            data=(Path(f"{bucket}/data"),),
        )
        written = write_config(away, tmp_path / "away.py")
        for number, least in enumerate((3, 7, 11)):
            monkeypatch.setenv("WHISFUSION_CACHE", str(tmp_path / f"machine {number}"))
            process = launch(*TRAIN, written)
            until(lambda least=least: max(losses(away), default=0) >= least, process)  # type: ignore[misc]
            process.send_signal(signal.SIGKILL)
            process.communicate()
        finish(launch(*TRAIN, written))
        assert losses(away) == losses(config)
        assert (place(away.work) / "tensorboard").is_dir()
        assert Bundle.open(place(away.work) / "bundle").load_denoiser()
