"""Where a first run's time goes: one file, a new process, no compiled programs kept.

python -m benchmarks.first_run samples/ast_vm-forward.flac
"""

import json
import statistics
import subprocess
import sys
from pathlib import Path

import tyro
from rich.console import Console
from rich.progress import track
from rich.table import Table

DECODERS = ("ar", "exact", "diffusion")
PARTS = ("importing", "loading", "compiling", "running")

_RUN = """
import json, sys, time
begin = time.perf_counter()
from whisfusion_jax import Transcriber
imported = time.perf_counter()
file, bundle, decoder = sys.argv[1:]
transcriber = Transcriber.from_bundle(bundle, decoder=decoder)
loaded = time.perf_counter()
transcriber.transcribe(file)
done, compiling = time.perf_counter(), transcriber.recogniser.compile_seconds
print(json.dumps([imported - begin, loaded - imported, compiling, done - loaded - compiling]))
"""


def first_run(file: tyro.conf.Positional[Path], bundle: str = "tiny.en", rounds: int = 5) -> None:
    """Time each decoder in turn.

    Args:
        file: A recording.
        bundle: Whisper, by name or directory.
        rounds: Processes that each decoder is timed in.
    """
    seconds: dict[str, list[list[float]]] = {decoder: [] for decoder in DECODERS}
    for _ in track(range(rounds), description="running", transient=True):
        for decoder in DECODERS:
            command = [sys.executable, "-c", _RUN, str(file), bundle, decoder]
            said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            seconds[decoder].append(json.loads(said.splitlines()[-1]))
    table = Table("s, median", *PARTS, "all", "lowest to highest")
    for decoder, runs in seconds.items():
        parts = [f"{statistics.median(part):.2f}" for part in zip(*runs, strict=True)]
        whole = sorted(map(sum, runs))
        spread = f"{whole[0]:.2f} to {whole[-1]:.2f}"
        table.add_row(decoder, *parts, f"{statistics.median(whole):.2f}", spread)
    Console().print(table)


if __name__ == "__main__":
    tyro.cli(first_run)
