"""The spoken lines of two games.

Flight of the Amazon Queen's queen.1c begins with QTBL, six bytes of version and two of features, a
byte that says how sounds are packed (1: MP3), and a table: the number of entries in two bytes, then
for each a name of twelve bytes, filled up with zeros, one byte, its offset and its size in four
bytes each, highest first. Names of sounds end in .SB.

Drascula has a directory for each language, whose lines are files NAME.ALS: samples of eight bits,
128 for silence, at 11,025 Hz. Links there are to those of another language.
"""

import json
import struct
import wave
from collections.abc import Iterator
from pathlib import Path

from whisfusion_jax.audio.read import read_audio
from whisfusion_jax.errors import AudioError, WhisfusionError

_HEADER, _ENTRY = 15, 21
_RATE = 11_025
_SHORTEST = 1.2
"""Seconds; what is shorter is a grunt."""


def unpack_speech(game: Path, folder: Path) -> Path:
    """Write each line and a manifest of them, without texts, into a folder.

    Args:
        game: the first game's archive, or the second one's directory of a language.

    Raises:
        WhisfusionError: it is neither, or it is damaged.
    """
    language = game.name if game.is_dir() else "en"
    lines = _samples(game, folder) if game.is_dir() else _packed(game, folder)
    rows = [json.dumps({"audio": path.name, "language": language}) for path in lines]
    if not rows:
        raise WhisfusionError(f"{game}: holds no speech")
    manifest = folder / "manifest.jsonl"
    manifest.write_text("\n".join(rows) + "\n")
    return manifest


def _samples(game: Path, folder: Path) -> Iterator[Path]:
    """Each line of a directory as a WAV."""
    for line in sorted(game.glob("*.ALS")):
        samples = b"" if line.is_symlink() else line.read_bytes()
        if len(samples) < _SHORTEST * _RATE:
            continue
        path = folder / f"{line.stem}.wav"
        with wave.open(str(path), "wb") as opened:
            opened.setparams((1, 1, _RATE, 0, "NONE", ""))
            opened.writeframes(samples)
        yield path


def _packed(game: Path, folder: Path) -> Iterator[Path]:
    """Each line of an archive as an MP3."""
    try:
        archive = game.read_bytes()
    except OSError as error:
        raise WhisfusionError(f"{game}: {error.strerror}") from None
    if archive[:4] != b"QTBL" or len(archive) < _HEADER or archive[12] != 1:
        raise WhisfusionError(f"{game}: no archive of the game's with MP3s")
    (entries,) = struct.unpack(">H", archive[13:_HEADER])
    for number in range(entries):
        entry = archive[_HEADER + number * _ENTRY :][:_ENTRY]
        if len(entry) < _ENTRY:
            raise WhisfusionError(f"{game}: its table is cut off")
        name = entry[:12].rstrip(b"\0").decode("ascii", "replace")
        offset, size = struct.unpack(">II", entry[13:])
        if not name.endswith(".SB"):
            continue
        # Numbered, not named: nothing in the archive says where to write.
        path = folder / f"{number:05}.mp3"
        path.write_bytes(archive[offset : offset + size])
        try:
            seconds = len(read_audio(path)) / 16_000
        except AudioError:
            continue
        if seconds >= _SHORTEST:
            yield path
