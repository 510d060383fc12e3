"""A game's archive of sounds, made here."""

import json
import struct
from pathlib import Path

import pytest

from tests.audio.media import tone, write
from tools.prepare_speech.voice_acting import unpack_speech
from whisfusion_jax.audio.read import read_audio
from whisfusion_jax.errors import WhisfusionError


def archive(path: Path, sounds: dict[str, bytes]) -> Path:
    offset = 15 + 21 * len(sounds)
    table, body = b"", b""
    for name, sound in sounds.items():
        table += name.encode().ljust(12, b"\0") + b"\0"
        table += struct.pack(">II", offset + len(body), len(sound))
        body += sound
    head = b"QTBL" + bytes(8) + b"\1" + struct.pack(">H", len(sounds))
    path.write_bytes(head + table + body)
    return path


def test_spoken_lines_are_listed_and_the_rest_is_left(tmp_path: Path) -> None:
    mp3 = {
        seconds: write(tmp_path / f"{seconds}.mp3", "mp3", tone(seconds, 16_000), 16_000)
        for seconds in (2, 0.5)
    }
    sounds = {
        "LINE1.SB": mp3[2].read_bytes(), "GRUNT.SB": mp3[0.5].read_bytes(),
        "BROKEN.SB": b"no sound", "TEXT.PCX": b"a picture",
    }  # fmt: skip
    folder = tmp_path / "out"
    folder.mkdir()
    manifest = unpack_speech(archive(tmp_path / "queen.1c", sounds), folder)
    (row,) = map(json.loads, manifest.read_text().splitlines())
    assert row["language"] == "en"
    assert len(read_audio(folder / row["audio"])) == pytest.approx(32_000, rel=0.1)


def test_a_directory_of_samples(tmp_path: Path) -> None:
    game, folder = tmp_path / "es", tmp_path / "out"
    for each in (game, folder):
        each.mkdir()
    (game / "1.ALS").write_bytes(b"\x80\xff" * 11_025)
    (game / "2.ALS").write_bytes(b"\x80" * 5_000)
    (game / "3.ALS").symlink_to("1.ALS")
    (row,) = map(json.loads, unpack_speech(game, folder).read_text().splitlines())
    assert row == {"audio": "1.wav", "language": "es"}
    assert len(read_audio(folder / "1.wav")) == pytest.approx(32_000, abs=2)
    with pytest.raises(WhisfusionError, match="no speech"):
        unpack_speech(folder, tmp_path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"RIFF" + bytes(30))
    with pytest.raises(WhisfusionError, match="no archive"):
        unpack_speech(other, tmp_path)
    whole = archive(tmp_path / "queen.1c", {"A.SB": b"x", "B.SB": b"y"}).read_bytes()
    other.write_bytes(whole[:40])
    with pytest.raises(WhisfusionError, match="cut off"):
        unpack_speech(other, tmp_path)
    with pytest.raises(WhisfusionError, match="No such file"):
        unpack_speech(tmp_path / "missing", tmp_path)
