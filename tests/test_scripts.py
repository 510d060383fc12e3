"""The programs of the top level, as a user calls them."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.checkpoint_writers import write_huggingface
from tests.conftest import SAMPLES
from tests.support import TINY, TINY_RULES, byte_tokenizer, random_tensors
from whisfusion_jax.bundle import Bundle
from whisfusion_jax.data.sources import Prepared

ROOT = Path(__file__).parent.parent


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    tensors = random_tensors(TINY)
    return write_huggingface(tmp_path / "hf", TINY, TINY_RULES, tensors, byte_tokenizer())


def test_converts_and_evaluates(checkpoint: Path, tmp_path: Path) -> None:
    """From a checkpoint to a score, with a padding memory from a directory of recordings."""
    bundle, report = tmp_path / "bundle", tmp_path / "report.json"
    convert = ("-m", "tools.convert_weights", checkpoint, bundle)
    done = run(*convert, "--memory-from", SAMPLES, "--dtype", "bfloat16")
    assert done.returncode == 0, done.stderr
    assert "padding memory from 4 recordings" in done.stdout
    assert Bundle.open(bundle).load_memory() is not None

    manifest = SAMPLES / "manifest.jsonl"
    done = run("eval.py", "--manifest", manifest, "--bundle", bundle, "--json", report)
    assert done.returncode == 0, done.stderr
    assert "speaker LJ" in done.stdout
    summary = json.loads(report.read_text())["summary"]
    assert summary["utterances"] == 4
    assert summary["rtfx"] > 0


def test_a_wrong_checkpoint_is_named_and_leaves_nothing(checkpoint: Path, tmp_path: Path) -> None:
    settings = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps({**settings, "encoder_layers": 3}))
    done = run("-m", "tools.convert_weights", checkpoint, tmp_path / "bundle")
    assert done.returncode == 2
    assert "missing: encoder.layers.2.fc1.weight" in done.stderr
    assert "Traceback" not in done.stderr
    shutil.rmtree(checkpoint)
    assert list(tmp_path.iterdir()) == []


def test_recordings_become_a_set_with_the_unheard_apart(tmp_path: Path) -> None:
    prepare = ("-m", "tools.prepare_speech", "recorded", "--data-dir", tmp_path)
    done = run(*prepare, "--manifest", SAMPLES / "manifest.jsonl", "--without-speakers", "LJ")
    assert done.returncode == 0, done.stderr
    folder = Path(done.stdout.splitlines()[-1])
    assert folder == tmp_path / "manifest_speech" / "samples" / "1.0.0"
    unheard = Prepared(folder, "unheard")
    assert [len(Prepared(folder)), len(unheard)] == [2, 2]
    assert "in being comparatively modern." in {unheard[0].text, unheard[1].text}
    done = run(*prepare, "--manifest", tmp_path / "none.jsonl")
    assert done.returncode == 2
    assert "none.jsonl: no such file" in done.stderr


def test_a_missing_manifest_is_one_line(tmp_path: Path) -> None:
    done = run("eval.py", "--manifest", tmp_path / "none.jsonl")
    assert done.returncode == 2
    assert "No such file" in done.stderr
    assert "Traceback" not in done.stderr
