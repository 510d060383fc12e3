"""Two processes of two devices each: a death, a new start, another mesh."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from tests.parallel.launch import (
    DUMP,
    TRAIN,
    finish,
    launch,
    launch_two,
    losses,
    until,
    write_config,
)
from tests.training.tiny import tiny_run
from whisfusion_jax.bundle import Bundle
from whisfusion_jax.config import MeshConfig, PhaseConfig, TrainConfig
from whisfusion_jax.data.encoded import encode_examples
from whisfusion_jax.data.live import Live
from whisfusion_jax.training.feed import training_source

DEVICES = 2


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    folder = tmp_path_factory.mktemp("processes")
    config = dataclasses.replace(
        tiny_run(folder), phases=(PhaseConfig(12, ("ahead", "uniform")),), dev=None, canvases=2,
        positions=16 * 16, report_every=1, save_every=4, mesh=MeshConfig(data=2, fsdp=2),
        states=folder / "encoded",
    )  # fmt: skip
    encode_examples(training_source(config), Bundle.open(config.bundle), folder / "encoded")
    return config


@pytest.fixture(scope="module")
def undisturbed(config: TrainConfig) -> dict[int, float]:
    finish(*launch_two(*TRAIN, write_config(config), devices=DEVICES))
    return losses(config)


def test_what_two_processes_write_is_a_bundle(
    config: TrainConfig, undisturbed: dict[int, float]
) -> None:
    assert Bundle.open(config.work / "bundle").load_denoiser()
    assert list(undisturbed) == list(range(1, 13))
    assert (config.work / "log.jsonl").read_text().count('"step": 12,') == 1


def test_a_killed_process_costs_nothing_but_time(
    config: TrainConfig, undisturbed: dict[int, float], tmp_path: Path
) -> None:
    disturbed = dataclasses.replace(config, work=tmp_path / "work")
    first, second = launch_two(*TRAIN, write_config(disturbed), devices=DEVICES)
    until(lambda: max(losses(disturbed), default=0) >= 5, first)
    second.kill()
    # It can't go on alone; a scheduler would end it, too.
    first.terminate()
    first.kill()
    for process in (first, second):
        process.communicate()
    finish(*launch_two(*TRAIN, write_config(disturbed), devices=DEVICES))
    assert losses(disturbed) == undisturbed


def test_a_checkpoint_is_restored_onto_any_mesh(
    config: TrainConfig, undisturbed: dict[int, float], tmp_path: Path
) -> None:
    path = write_config(config)
    finish(*launch_two(*DUMP, path, str(tmp_path), "2x2", devices=DEVICES))
    finish(launch(*DUMP, path, str(tmp_path), "1x1,1x4", devices=4))
    with np.load(tmp_path / "2x2.npz") as arrays:
        expected = dict(arrays)
    assert expected["step"] == 12
    for mesh in ("1x1", "1x4"):
        with np.load(tmp_path / f"{mesh}.npz") as found:
            assert set(found) == set(expected)
            for name in expected:
                np.testing.assert_array_equal(found[name], expected[name])


def test_one_of_two_processes_encodes(
    config: TrainConfig, undisturbed: dict[int, float], tmp_path: Path
) -> None:
    fresh = dataclasses.replace(config, states=None, stop_at=2, work=tmp_path / "work")
    finish(*launch_two(*TRAIN, write_config(fresh), devices=DEVICES))
    assert losses(fresh) == {step: undisturbed[step] for step in (1, 2)}


def test_two_processes_read_lengths_together(config: TrainConfig, tmp_path: Path) -> None:
    live = dataclasses.replace(
        config, keep_states=False, states=None, stop_at=1, work=tmp_path / "work"
    )
    finish(*launch_two(*TRAIN, write_config(live), devices=DEVICES))
    assert list(losses(live)) == [1]
    Live(training_source(live), Bundle.open(live.bundle), tmp_path / "alone.npz")
    with np.load(live.work / "examples.npz") as two, np.load(tmp_path / "alone.npz") as alone:
        for name in ("number", "bucket", "seconds", "prompt", "lengths", "tokens"):
            np.testing.assert_array_equal(two[name], alone[name])
