"""The same run on one device and on many."""

import dataclasses
from pathlib import Path

import pytest

from tests.parallel.launch import TRAIN, finish, launch, losses, write_config
from tests.support import TINY
from tests.training.tiny import tiny_run
from whisfusion_jax.config import DenoiserConfig, PhaseConfig, TrainConfig

SIZES = DenoiserConfig(
    vocabulary=0, width=32, heads=4, layers=3, audio_width=TINY.width, hidden=64, warm=False
)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    """From scratch, with all that large runs use: the encoder in the step, scanned layers."""
    config = tiny_run(tmp_path_factory.mktemp("sharded"))
    return dataclasses.replace(
        config, denoiser=SIZES, phases=(PhaseConfig(10, ("uniform", "high_mask")),), dev=None,
        canvases=2, positions=2 * 48 * 16, keep_states=False, report_every=1, scan="nothing",
        accumulate=2,
    )  # fmt: skip


@pytest.fixture(scope="module")
def alone(config: TrainConfig) -> dict[int, float]:
    finish(launch(*TRAIN, write_config(config)))
    return losses(config)


@pytest.mark.parametrize(
    "mesh", [(8, 1, 1), (2, 4, 1), (2, 2, 2)], ids="{0[0]}x{0[1]}x{0[2]}".format
)
def test_eight_devices_learn_what_one_learns(
    config: TrainConfig, alone: dict[int, float], mesh: tuple[int, int, int], tmp_path: Path
) -> None:
    spread = dataclasses.replace(config, work=tmp_path / "work")
    flags = [
        part
        for axis, size in zip(("data", "fsdp", "tensor"), mesh, strict=True)
        for part in (f"--mesh.{axis}", str(size))
    ]
    finish(launch(*TRAIN, write_config(spread), *flags, devices=8))
    assert losses(spread) == pytest.approx(alone, rel=1e-4)
    assert len(alone) == 10
    assert alone[10] < 0.9 * alone[1]
