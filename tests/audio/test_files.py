from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from whisfusion_jax.audio.files import find_files, open_source
from whisfusion_jax.errors import AudioError


def test_directories_and_patterns_are_their_recordings(tmp_path: Path) -> None:
    for name in ("b.mp3", "a.WAV", "notes.txt", "deep/c.opus"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    a, b, c, notes = (
        str(tmp_path / each) for each in ("a.WAV", "b.mp3", "deep/c.opus", "notes.txt")
    )
    assert find_files([str(tmp_path)]) == [a, b, c]
    assert find_files([str(tmp_path / "*.mp3"), "-", notes]) == [b, "-", notes]
    assert find_files([str(tmp_path / "**" / "*.opus")]) == [c]
    assert find_files(["missing.wav"]) == ["missing.wav"]
    with pytest.raises(AudioError, match="no file fits this pattern"):
        find_files([str(tmp_path / "*.flac")])
    (tmp_path / "empty").mkdir()
    with pytest.raises(AudioError, match="no recordings in this directory"):
        find_files([str(tmp_path / "empty")])


def test_standard_input_and_bare_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Input:
        buffer = BytesIO(b"\x00\x40\xff")

    monkeypatch.setattr("sys.stdin", Input)
    samples, rate = open_source("-", 8_000)
    assert rate == 8_000
    np.testing.assert_array_equal(samples, [0x4000])
    Input.buffer.seek(0)
    whole = open_source("-")
    assert isinstance(whole, BytesIO)
    assert whole.read() == b"\x00\x40\xff"
    assert open_source("a.wav") == "a.wav"
