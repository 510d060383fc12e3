"""Forty recordings that can't be read, each with what its error must say (a regular expression)."""

import struct
import wave
from pathlib import Path

import numpy as np

from tests.audio.media import tone, write, write_silent_video


def write_bad_files(folder: Path) -> dict[Path, str]:
    """Write the files; a path to what its error says."""
    bad: dict[Path, str] = {}

    def put(name: str, content: bytes, word: str) -> None:
        path = folder / name
        path.write_bytes(content)
        bad[path] = word

    for ending in ("wav", "mp3", "flac", "ogg", "m4a", "webm"):
        put(f"empty.{ending}", b"", "empty")
        put(f"words.{ending}", b"These are words and no sound at all. " * 40, "not readable")
        noise = np.random.default_rng(0).integers(256, size=5000, dtype=np.uint8)
        put(f"zeros.{ending}", bytes(5000), "not readable")
        put(f"half_magic.{ending}", noise.tobytes()[:9], "not readable")

    for ending in ("wav", "flac", "m4a", "webm", "ogg", "mp3"):
        whole = write(folder / f"whole.{ending}", ending, tone(8, 16_000), 16_000).read_bytes()
        (folder / f"whole.{ending}").unlink()
        put(f"truncated.{ending}", whole[: len(whole) // 2], "cut short|not readable")

    for value, name in ((np.nan, "nan"), (np.inf, "infinity"), (-np.inf, "minus_infinity")):
        samples = tone(1, 16_000)
        samples[0, 700] = value
        bad[write_float_wav(folder / f"{name}.wav", samples[0])] = "not finite"
    bad[write_float_wav(folder / "all_nan.wav", np.full(16_000, np.nan, np.float32))] = "not finite"

    with wave.open(str(folder / "zero_length.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
    bad[folder / "zero_length.wav"] = "no samples"
    bad[write_silent_video(folder / "silent.mp4")] = "without sound"
    bad[folder / "missing.wav"] = "no such file"
    (folder / "directory.wav").mkdir()
    bad[folder / "directory.wav"] = "directory"
    put("page.html", b"<html><body>404</body></html>", "not readable")
    put("archive.zip", b"PK\x03\x04" + bytes(200), "not readable")
    return bad


def write_float_wav(path: Path, samples: np.ndarray) -> Path:
    """A 16 kHz mono WAV of 32-bit floats, whatever their values."""
    data = samples.astype("<f4").tobytes()
    form = struct.pack("<HHIIHH", 3, 1, 16_000, 64_000, 4, 32)
    chunks = b"fmt " + struct.pack("<I", len(form)) + form
    chunks += b"data" + struct.pack("<I", len(data)) + data
    path.write_bytes(b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks)
    return path
