"""A hundred files in ten formats, damaged at random: our text beside that of what FFmpeg decodes.

python -m benchmarks.damaged

Needs FFmpeg's command, which writes the files and decodes them.
"""

import shutil
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path

import jiwer
import numpy as np
import tyro
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.common import SAMPLES, load_clips
from whisfusion_jax.audio.arrays import SAMPLE_RATE
from whisfusion_jax.cli import keep_compiled_programs
from whisfusion_jax.errors import AudioError, WhisfusionError
from whisfusion_jax.text.normalise import normaliser_for
from whisfusion_jax.transcription.transcriber import Transcriber

FORMATS = ("wav", "flac", "mp3", "ogg", "opus", "m4a", "aac", "webm", "wma", "ac3")
_ALIKE = 0.1
"""The word error rate up to which two texts are one."""
_LEAST = SAMPLE_RATE // 2
"""Samples; of less there is no text to compare."""


def main(manifest: Path = SAMPLES, each: int = 10, seed: int = 0, bundle: str = "tiny.en") -> None:
    """Damage, transcribe, compare.

    Args:
        manifest: Its utterances are joined to the recording that is damaged.
        each: Files of each format.
        seed: Of all that is drawn.
        bundle: With a denoiser.
    """
    if not shutil.which("ffmpeg"):
        raise WhisfusionError("benchmarks.damaged needs the command ffmpeg")
    keep_compiled_programs()
    random = np.random.default_rng(seed)
    speech = np.concatenate([samples for _, samples in load_clips(manifest)])
    transcriber = Transcriber.from_bundle(bundle)
    found: dict[str, Counter[str]] = {}
    slowest = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for ending in track(FORMATS, description="damaging", transient=True):
            whole = Path(folder) / f"whole.{ending}"
            _ffmpeg(
                speech,
                "-ar",
                "16000" if ending not in ("opus", "webm", "ac3") else "48000",
                str(whole),
            )
            for number in range(each):
                path = Path(folder) / f"{number}.{ending}"
                path.write_bytes(damaged(whole.read_bytes(), random))
                begin = time.perf_counter()
                kind = _compare(transcriber, path)
                slowest = max(slowest, time.perf_counter() - begin)
                found.setdefault(ending, Counter())[kind] += 1
    kinds = sorted({kind for counted in found.values() for kind in counted})
    table = Table("format", *kinds, title=f"{each} damaged files of each, slowest {slowest:.1f} s")
    for ending, counted in found.items():
        table.add_row(ending, *(str(counted[kind]) for kind in kinds))
    total = sum(found.values(), Counter())
    table.add_row("all", *(str(total[kind]) for kind in kinds), style="bold")
    Console(width=110).print(table)


def damaged(data: bytes, random: np.random.Generator) -> bytes:
    """A file's bytes as broken disks, lines and recorders leave them."""
    at, behind = sorted(random.integers(0, len(data), 2).tolist())
    piece = min(behind - at, len(data) // 10)
    match random.integers(5):
        case 0:  # the end is lost
            return data[: max(at, len(data) // 5)]
        case 1:  # so is a piece
            return data[:at] + data[at + piece :]
        case 2:  # a piece was never written
            return data[:at] + bytes(piece) + data[at + piece :]
        case 3:  # something else got between
            return data[:at] + random.bytes(piece) + data[at:]
        case _:  # single bytes are wrong
            broken = bytearray(data)
            for place in random.integers(0, len(data), 20):
                broken[place] = int(random.integers(256))
            return bytes(broken)


def _compare(transcriber: Transcriber, path: Path) -> str:
    decoded = _decoded(path)
    (ours,) = transcriber.transcribe_many([path])
    if len(decoded) < _LEAST:
        return "FFmpeg decodes nothing"
    theirs = transcriber.transcribe(decoded).text
    if isinstance(ours, AudioError):
        return "refused"
    normal = normaliser_for("en")
    said, text = normal(theirs), normal(ours.text)
    if not said or jiwer.wer(said, text) <= _ALIKE:
        return "the same text"
    # What FFmpeg's command gives up may be read all the same.
    return "more text" if len(text) > len(said) else "less text"


def _ffmpeg(samples: np.ndarray, *output: str) -> None:
    raw = (32767 * samples).astype("<i2").tobytes()
    source = ("-f", "s16le", "-ar", str(SAMPLE_RATE), "-ac", "1", "-i", "-")
    subprocess.run(
        ["ffmpeg", "-v", "error", "-y", *source, *output], input=raw, check=True, timeout=60
    )


def _decoded(path: Path) -> np.ndarray:
    raw = subprocess.run(
        ["ffmpeg", "-v", "quiet", "-i", str(path), "-f", "f32le", "-ar", str(SAMPLE_RATE),
         "-ac", "1", "-"],
        capture_output=True, timeout=60, stdin=subprocess.DEVNULL,
    ).stdout  # fmt: skip
    return np.frombuffer(raw[: len(raw) // 4 * 4], "<f4")


if __name__ == "__main__":
    tyro.cli(main)
