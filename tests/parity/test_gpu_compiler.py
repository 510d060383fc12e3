"""Programs compiled for GPUs that are not here, by XLA itself (`make test-parity` installs it)."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.parallel.launch import ROOT

pytestmark = pytest.mark.parity

COMPILER = Path(sys.prefix) / "gpu"


def report(*flags: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tools.compile_report", "--config",
         "configs/tiny_en_from_scratch.py", *flags],
        cwd=ROOT, capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(COMPILER)},
    )  # fmt: skip
    return done.stdout


@pytest.mark.parametrize("topology", ["h100:1", "a100:2x4"])
def test_exact_decoding_compiles(topology: str) -> None:
    found = report("--topology", topology, "--what", "exact", "--audios", "1")
    assert "of 80.00 GB" in found


def test_an_encoder_never_holds_all_scores() -> None:
    found = report("--topology", "h100:1", "--what", "hear", "--audios", "16")
    # 16 windows, 6 heads, 1500 x 1500 scores of 4 bytes would be 0.86 GB.
    temporaries = next(line for line in found.splitlines() if "temporaries" in line)
    assert float(temporaries.split("│")[2].split()[0]) < 0.4
    assert "attention by cuDNN" in found
