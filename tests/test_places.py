"""Files in buckets, by emulators of Google's and Amazon's."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.buckets import KINDS, emulated
from tests.support import random_bundle, speechlike
from tests.training.tiny import write_wave
from whisfusion_jax import Transcriber
from whisfusion_jax.audio.files import find_files
from whisfusion_jax.audio.read import read_audio
from whisfusion_jax.bundle import Bundle
from whisfusion_jax.data.manifest import read_manifest
from whisfusion_jax.errors import AudioError, WhisfusionError
from whisfusion_jax.places import (
    append,
    brought,
    cut,
    growing,
    here,
    in_bucket,
    place,
    put,
    replace,
    write,
)
from whisfusion_jax.transcription.archive import Archive, archive_lines


@pytest.fixture(scope="module", params=KINDS)
def bucket(request: pytest.FixtureRequest) -> Iterator[str]:
    with emulated(request.param) as address:
        yield address


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHISFUSION_CACHE", str(tmp_path / "cache"))


def test_a_path_is_meant_however_many_slashes_are_left() -> None:
    assert str(place(Path("gs://bucket/run"))) == "gs://bucket/run"
    assert str(place("s3://bucket/run")) == "s3://bucket/run"
    assert place("runs/a") == place(Path("runs/a"))
    assert in_bucket(Path("s3://bucket/run"))
    assert not in_bucket("runs/gs/x")


def test_here_nothing_is_copied(tmp_path: Path) -> None:
    assert brought(tmp_path) == here(tmp_path) == tmp_path
    put(tmp_path, last="x")
    append(tmp_path / "log", "a\n")
    append(tmp_path / "log", "b\n")
    assert (tmp_path / "log").read_text() == "a\nb\n"


def test_what_is_made_here_is_put_there_and_brought_elsewhere(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(f"{bucket}/states")
    own = brought(path)
    (own / "inside").mkdir(parents=True)
    (own / "inside" / "a").write_bytes(b"abc")
    (own / "index").write_text("all")
    put(path, last="index")
    assert (place(path) / "inside" / "a").read_bytes() == b"abc"
    monkeypatch.setenv("WHISFUSION_CACHE", str(tmp_path / "another machine's"))
    other = brought(path)
    assert other != own
    assert (other / "inside" / "a").read_bytes() == b"abc"
    (other / "index").touch()
    before = (other / "index").stat().st_mtime_ns
    assert (brought(path) / "index").stat().st_mtime_ns == before  # not again
    write(place(path) / "index", "ALL")
    assert (brought(path) / "index").read_text() == "ALL"
    (other / "index").write_text("all")
    put(path, last="index")
    assert (place(path) / "index").read_text() == "all"


def test_a_directory_takes_anothers_place(bucket: str, tmp_path: Path) -> None:
    for names in ("old", "both"), ("both", "new"):
        made = tmp_path / names[0]
        made.mkdir()
        for name in names:
            (made / name).write_text(str(names))
        replace(f"{bucket}/bundle", made, last="both")
    found = {each.name: each.read_text() for each in place(f"{bucket}/bundle").iterdir()}
    assert found == dict.fromkeys(("both", "new"), "('both', 'new')")


def test_a_file_grows(bucket: str) -> None:
    path = f"{bucket}/grows"
    append(path, "0\n")
    with contextlib.suppress(KeyboardInterrupt), growing(path) as add:
        for number in range(1, 5000):
            add(f"{number}\n")
        raise KeyboardInterrupt
    assert place(path).read_text() == "".join(f"{number}\n" for number in range(5000))
    cut(path, 4)
    assert place(path).read_text() == "0\n1\n"


def test_transcripts_are_written_and_recordings_found(bucket: str) -> None:
    for name in ("talks/deep/b.wav", "talks/a.mp3", "talks/notes.txt"):
        write(f"{bucket}/{name}", name)
    write(f"{bucket}/talks/a.mp3", "anew")
    assert place(f"{bucket}/talks/a.mp3").read_text() == "anew"
    assert find_files([f"{bucket}/talks"]) == [
        f"{bucket}/talks/a.mp3", f"{bucket}/talks/deep/b.wav"
    ]  # fmt: skip
    with pytest.raises(AudioError, match="no such file"):
        read_audio(f"{bucket}/talks/missing.wav")


def test_what_reads_buckets_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("whisfusion_jax.places.find_spec", lambda name: None)
    with pytest.raises(WhisfusionError, match=r"whisfusion_jax\[buckets\]"):
        place("gs://bucket/run")
    assert place("run") == place(Path("run"))


def test_an_archive_of_a_bucket_goes_on_where_it_was_stopped(bucket: str, tmp_path: Path) -> None:
    rows = []
    for number in range(5):
        write_wave(tmp_path / "clip.wav", speechlike(0.5 + number / 4, number))
        name = f"{number}.wav"
        place(f"{bucket}/clips/{name}").write_bytes((tmp_path / "clip.wav").read_bytes())
        rows.append({"audio": name})
    listed = "".join(json.dumps(row) + "\n" for row in rows)
    place(f"{bucket}/clips/manifest.jsonl").write_text(listed)
    utterances = read_manifest(Path(f"{bucket}/clips/manifest.jsonl"), texts=False)
    transcriber = Transcriber(Bundle.open(random_bundle(tmp_path / "bundle").path), batch_size=2)
    lines = list(archive_lines(transcriber, utterances))
    assert [line["duration"] for line in lines] == [0.5, 0.75, 1.0, 1.25, 1.5]
    archive = Archive(place(f"{bucket}/out.jsonl"))

    def stopped(lines: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        yield from lines[:2]
        raise KeyboardInterrupt

    while not archive.output.exists():
        missing = lines[archive.written() :]
        if len(missing) > 2:
            with pytest.raises(KeyboardInterrupt):
                archive.write(stopped(missing))
        else:
            archive.write(missing)
    assert [json.loads(line) for line in archive.output.read_text().splitlines()] == lines
    assert not archive.part.exists()
