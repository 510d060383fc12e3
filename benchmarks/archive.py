"""An archive by two workers of Ray, one of them killed, and the driver, too, against one process.

Their lines have to be the same, in order.

python -m benchmarks.archive --clips 2000
python -m benchmarks.archive --clips 2000 --manifest SET/manifest.jsonl --bundle tiny.en
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import tyro

from benchmarks.common import load_clips
from tests.support import TINY, random_bundle, speechlike
from tests.support import manifest as write_manifest
from tests.training.tiny import write_wave
from whisfusion_jax.audio.arrays import SAMPLE_RATE
from whisfusion_jax.audio.read import read_audio
from whisfusion_jax.conversion.memory import add_memory
from whisfusion_jax.hub import CLIPS
from whisfusion_jax.transcription.archive import Archive


def main(
    clips: int = 2000,
    manifest: Path | None = None,
    bundle: str | None = None,
    seed: int = 0,
    undisturbed: bool = False,
) -> None:
    """Transcribe, kill, go on, compare.

    Args:
        clips: How many, of half a second to three; some hundreds, as workers take 64 at once.
        manifest: Recordings that clips are cut from; without it they are made sounds.
        bundle: By name or directory; without it a tiny one of random weights.
        seed: Of the clips, and of when the worker and the driver die.
        undisturbed: Kill nothing: for the throughput.
    """
    with TemporaryDirectory() as name:
        folder = Path(name)
        recordings = [samples for _, samples in load_clips(manifest)] if manifest else []
        draw = np.random.default_rng(seed)
        rows = []
        for number in range(clips):
            write_wave(folder / f"{number}.wav", cut(recordings, draw, number))
            rows.append({"audio": f"{number}.wav"})
        listed = write_manifest(folder / "manifest.jsonl", rows)
        used = bundle or tiny_bundle(folder)
        alone, together = folder / "alone.jsonl", folder / "together.jsonl"
        command = partial(start, listed, together, used, "--ray", "auto", "--workers", "2")
        begin = time.perf_counter()
        finish(start(listed, alone, used))
        middle = time.perf_counter()
        killed = [] if undisturbed else disturb(command, Archive(together).part, clips, draw)
        finish(command())
        end = time.perf_counter()
        expected, found = (path.read_text().splitlines() for path in (alone, together))
        differ = sum(one != other for one, other in zip(expected, found, strict=True))
        texts = {json.loads(line)["pred_text"] for line in expected}
        print(
            f"{clips} clips, {len(texts)} texts; alone {middle - begin:.0f} s; two workers "
            f"{end - middle:.0f} s, {' and '.join(killed) or 'undisturbed'}; {differ} lines differ"
        )
        if differ or len(found) != clips:
            sys.exit(1)


def disturb(
    command: Callable[[], subprocess.Popen], part: Path, clips: int, draw: np.random.Generator
) -> list[str]:
    """Kill a worker, and later the driver, by SIGKILL; say after how many lines."""
    driver = command()
    first, second = sorted(draw.integers(1, clips - 64, size=2))
    wait_for(driver, part, first)
    workers = subprocess.run(
        ["pgrep", "-f", "ray::MapWorker"], capture_output=True, text=True, check=True
    )
    os.kill(int(workers.stdout.split()[0]), signal.SIGKILL)
    killed = [f"one killed after {lines_of(part)} lines"]
    wait_for(driver, part, second)
    driver.kill()
    driver.wait()
    # Ray's own processes notice, and end.
    return [*killed, f"the driver after {lines_of(part)}"]


def wait_for(driver: subprocess.Popen, part: Path, lines: int) -> None:
    while driver.poll() is None and lines_of(part) < lines:
        time.sleep(0.01)


def cut(recordings: Sequence[np.ndarray], draw: np.random.Generator, number: int) -> np.ndarray:
    """A clip of one of the recordings, or a made sound where there are none."""
    seconds = draw.uniform(0.5, 3)
    if not recordings:
        return speechlike(seconds, number)
    samples = recordings[draw.integers(len(recordings))]
    begin = draw.integers(max(1, len(samples) - int(seconds * SAMPLE_RATE)))
    return samples[begin:][: int(seconds * SAMPLE_RATE)]


def tiny_bundle(folder: Path) -> str:
    whisper = random_bundle(folder / "whisper", TINY)
    add_memory(whisper, [read_audio(clip) for clip in sorted(CLIPS.glob("*.wav"))])
    return str(whisper.path)


def start(listed: Path, output: Path, bundle: str, *flags: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "whisfusion_jax", "archive", str(listed), str(output)]
    return subprocess.Popen([*command, "--bundle", bundle, *flags])


def finish(process: subprocess.Popen) -> None:
    if process.wait():
        sys.exit(1)


def lines_of(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


if __name__ == "__main__":
    tyro.cli(main)
