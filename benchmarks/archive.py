"""An archive by two processes of four devices, one of them killed, against one of one device.

Their lines have to be the same, in order.

python -m benchmarks.archive --clips 2000
python -m benchmarks.archive --clips 2000 --manifest SET/manifest.jsonl --bundle tiny.en
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import tyro

from benchmarks.common import load_clips
from tests.support import TINY, random_bundle, speechlike
from tests.support import manifest as write_manifest
from tests.training.tiny import write_wave
from whisfusion_jax.audio.mel import SAMPLE_RATE
from whisfusion_jax.audio.read import read_audio
from whisfusion_jax.conversion.memory import add_memory
from whisfusion_jax.hub import CLIPS
from whisfusion_jax.transcription.archive import Archive


def main(
    clips: int = 2000, manifest: Path | None = None, bundle: str | None = None, seed: int = 0
) -> None:
    """Transcribe, kill, go on, compare.

    Args:
        clips: How many, of half a second to three.
        manifest: Recordings that clips are cut from; without it they are made sounds.
        bundle: By name or directory; without it a tiny one of random weights.
        seed: Of the clips, and of when one process dies.
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
        begin = time.perf_counter()
        alone, together = folder / "alone.jsonl", folder / "together.jsonl"
        finish(start(listed, alone, used, devices=1))
        middle = time.perf_counter()
        shares = [(f"--processes={2}", f"--process={process}") for process in range(2)]
        first, second = (start(listed, together, used, *flags, devices=4) for flags in shares)
        part = Archive(together, clips, 2).part(1)
        dies_at = int(draw.integers(1, clips // 2))
        while second.poll() is None and lines_of(part) < dies_at:
            time.sleep(0.01)
        second.kill()
        second.wait()
        kept = lines_of(part)
        finish(start(listed, together, used, *shares[1], devices=4))
        finish(first)
        end = time.perf_counter()
        expected, found = (path.read_text().splitlines() for path in (alone, together))
        differ = sum(one != other for one, other in zip(expected, found, strict=True))
        texts = {json.loads(line)["pred_text"] for line in expected}
        print(
            f"{clips} clips, {len(texts)} texts; alone {middle - begin:.0f} s; two of four devices "
            f"{end - middle:.0f} s, one killed after {kept} of its lines and started again; "
            f"{differ} lines differ"
        )
        if differ or len(found) != clips:
            sys.exit(1)


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


def start(listed: Path, output: Path, bundle: str, *flags: str, devices: int) -> subprocess.Popen:
    command = [sys.executable, "-m", "whisfusion_jax", "archive", str(listed), str(output)]
    command += ["--bundle", bundle, *flags]
    return subprocess.Popen(command, env={**os.environ, "JAX_NUM_CPU_DEVICES": str(devices)})


def finish(process: subprocess.Popen) -> None:
    if process.wait():
        sys.exit(1)


def lines_of(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


if __name__ == "__main__":
    tyro.cli(main)
