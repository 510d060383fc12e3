"""Batch transcription does not depend on the mesh, nor on deaths."""

import subprocess
import sys

from tests.parallel.launch import ROOT


def test_two_processes_of_four_devices_write_the_lines_of_one() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.archive", "--clips", "60"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "; 0 lines differ" in done.stdout
