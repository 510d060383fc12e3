"""What goes wrong in a run, and what is left of it then."""

import dataclasses
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from rich.progress import Progress

from tests.parallel.launch import ROOT, TRAIN, launch, losses, until, write_config
from tests.support import manifest
from tests.training.tiny import tiny_run, write_wave
from whisfusion_jax.bundle import Bundle
from whisfusion_jax.config import PhaseConfig, TrainConfig
from whisfusion_jax.data.encoded import encode_examples
from whisfusion_jax.errors import AudioError, WhisfusionError
from whisfusion_jax.evaluation.dev import dev_score
from whisfusion_jax.training.checkpoints import checkpoints_of
from whisfusion_jax.training.feed import training_source
from whisfusion_jax.training.loop import train
from whisfusion_jax.training.step import TrainState


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    """A run that nothing has disturbed."""
    folder = tmp_path_factory.mktemp("faults")
    config = dataclasses.replace(
        tiny_run(folder), phases=(PhaseConfig(16, ("ahead", "uniform")),), dev=None, canvases=2,
        positions=16 * 2, report_every=1, save_every=4, states=folder / "encoded",
    )  # fmt: skip
    encode_examples(training_source(config), Bundle.open(config.bundle), folder / "encoded")
    run(config)
    return config


def run(config: TrainConfig) -> list[str]:
    """Train; what is said of it."""
    with Progress(disable=True) as progress:
        progress.console.record = True
        train(config, progress, dev_score(config.dev))
        return progress.console.export_text().splitlines()


@pytest.mark.parametrize("damage", ["cut", "garbage"])
def test_a_torn_checkpoint_is_named_and_the_one_before_is_used(
    whole: TrainConfig, tmp_path: Path, damage: str, capfd: pytest.CaptureFixture[str]
) -> None:
    config = dataclasses.replace(whole, work=tmp_path / "work", stop_at=12)
    run(config)
    newest = config.work / "checkpoints" / "12"
    files = [path for path in sorted(newest.rglob("*")) if path.is_file() and "/d/" in str(path)]
    for path in files:
        if damage == "cut":
            os.truncate(path, path.stat().st_size // 2)
        else:
            path.write_bytes(b"\x5a" * path.stat().st_size)
    said = run(dataclasses.replace(config, stop_at=None))
    assert any("checkpoint 12 is damaged" in line for line in said)
    assert "Traceback" not in "".join(capfd.readouterr())
    assert (config.work / "damaged-checkpoint-12").is_dir()
    assert losses(config) == losses(whole)


def test_where_nothing_can_be_saved_is_said_before_anything_is_learned(
    whole: TrainConfig,
) -> None:
    with pytest.raises(WhisfusionError, match="not to s3://"):
        run(dataclasses.replace(whole, work=Path("s3://bucket/run")))


def test_checkpoints_of_another_model_are_left_alone(whole: TrainConfig, tmp_path: Path) -> None:
    config = dataclasses.replace(whole, work=tmp_path / "work", stop_at=4)
    run(config)
    other = dataclasses.replace(config, learned=("mask",))
    with pytest.raises(WhisfusionError, match="a checkpoint of another model"):
        run(other)
    assert (config.work / "checkpoints" / "4").is_dir()


def test_the_checkpoint_with_the_fewest_errors_stays(whole: TrainConfig, tmp_path: Path) -> None:
    class Place:
        def get_state(self) -> dict[str, int]:
            return {}

    config = dataclasses.replace(whole, work=tmp_path / "work", keep=1)
    nothing = nnx.State({})
    with checkpoints_of(config) as saved:
        for step, errors in enumerate([0.5, 0.1, 0.9, 0.4], start=1):
            state = TrainState(jnp.int32(step), nothing, nothing, ())
            saved.save(state, Place(), {"dev/wer": errors})
    folders = (config.work / "checkpoints").iterdir()
    assert {path.name for path in folders if path.name.isdigit()} == {"2", "4"}


def poisoned(whole: TrainConfig, work: Path, every: bool) -> TrainConfig:
    """A run in which one example's states, or all, are no numbers."""
    config = dataclasses.replace(whole, work=work, states=work / "encoded", most_skipped=3)
    encode_examples(training_source(config), Bundle.open(config.bundle), work / "encoded")
    (path,) = (work / "encoded").glob("*.states")
    states = np.memmap(path, np.float16, "r+").reshape(8, -1)
    states[slice(None) if every else slice(1)] = np.nan
    states.flush()
    return config


def test_a_step_that_is_no_number_changes_nothing_and_is_counted(
    whole: TrainConfig, tmp_path: Path
) -> None:
    config = poisoned(whole, tmp_path / "work", every=False)
    run(config)
    log = (config.work / "log.jsonl").read_text().splitlines()
    skipped = [line for line in log if '"skipped": 1' in line]
    assert 0 < len(skipped) < 16
    assert not any('"loss"' in line for line in skipped)
    assert len(losses(config)) == 16 - len(skipped)


def test_a_run_of_nothing_but_such_steps_stops(whole: TrainConfig, tmp_path: Path) -> None:
    with pytest.raises(WhisfusionError, match="no number in 3 steps in a row"):
        run(poisoned(whole, tmp_path / "work", every=True))


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_ended_goes_on_to_the_same_losses(
    whole: TrainConfig, tmp_path: Path, kind: signal.Signals
) -> None:
    config = dataclasses.replace(whole, work=tmp_path / "work")
    process = launch(*TRAIN, write_config(config))
    until(lambda: max(losses(config), default=0) >= 6, process)
    process.send_signal(kind)
    said, _ = process.communicate(timeout=30)
    if kind == signal.SIGTERM:
        assert process.returncode == 0, said
        # It saved where it stood.
        newest = max(int(path.name) for path in (config.work / "checkpoints").glob("[0-9]*"))
        assert newest == max(losses(config))
    run(config)
    assert losses(config) == losses(whole)


def test_a_full_disk_is_named_and_the_last_checkpoint_stays(
    whole: TrainConfig, tmp_path: Path
) -> None:
    config = dataclasses.replace(whole, work=tmp_path / "work")
    run(dataclasses.replace(config, stop_at=4))
    # As large as files may get: less than a checkpoint's.
    limit = f"import resource, signal; signal.signal({int(signal.SIGXFSZ)}, signal.SIG_IGN)"
    small = f"resource.setrlimit({resource.RLIMIT_FSIZE}, (20_000, 20_000))"
    main = f"import sys, runpy; sys.argv = ['train.py', '--config', {write_config(config)!r}]"
    code = f"{limit}; {small}; {main}; runpy.run_path('train.py', run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, "JAX_ENABLE_COMPILATION_CACHE": "false"},
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "can't save" in done.stderr
    assert "File too large" in done.stderr
    run(config)
    assert losses(config) == losses(whole)


def test_what_cannot_be_read_is_left_out_and_listed(whole: TrainConfig, tmp_path: Path) -> None:
    source = training_source(whole)

    class Damaged:
        def __len__(self) -> int:
            return len(source)

        def __getitem__(self, number: int) -> object:
            if number == 2:
                raise AudioError("example 2 is damaged")
            return source[number]

    encoded = encode_examples(Damaged(), Bundle.open(whole.bundle), tmp_path / "encoded")
    assert len(encoded) == len(source) - 1
    assert encoded.unreadable == ["example 2 is damaged"]
    config = dataclasses.replace(whole, work=tmp_path / "work", states=tmp_path / "encoded")
    assert "1 examples can't be read and are left out" in run(config)
    assert (config.work / "unreadable.0.txt").read_text() == "example 2 is damaged\n"


def test_a_recording_that_cannot_be_read_is_left_out_of_a_set(tmp_path: Path) -> None:
    write_wave(tmp_path / "good.wav", np.zeros(1600))
    (tmp_path / "bad.wav").write_bytes(b"no sound")
    rows = [{"audio": f"{name}.wav", "text": name} for name in ("good", "bad")]
    done = subprocess.run(
        [sys.executable, "-m", "tools.prepare_speech", "recorded", "--manifest",
         str(manifest(tmp_path / "manifest.jsonl", rows)), "--data-dir", str(tmp_path / "data")],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "left out: " in done.stderr
    assert "bad.wav" in done.stderr
    assert "1 recordings were left out" in done.stderr
