"""Manifests of many recordings: interruptions, what can't be read."""

import contextlib
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support import manifest, random_bundle, speechlike
from tests.training.tiny import write_wave
from whisfusion_jax import Transcriber
from whisfusion_jax.bundle import Bundle
from whisfusion_jax.data.manifest import Utterance, read_manifest
from whisfusion_jax.errors import WhisfusionError
from whisfusion_jax.transcription.archive import Archive, archive_lines

CLIPS = 7


@pytest.fixture(scope="module")
def transcriber(tmp_path_factory: pytest.TempPathFactory) -> Transcriber:
    bundle = random_bundle(tmp_path_factory.mktemp("archive") / "bundle")
    return Transcriber(Bundle.open(bundle.path), batch_size=2)


@pytest.fixture(scope="module")
def utterances(tmp_path_factory: pytest.TempPathFactory) -> list[Utterance]:
    folder = tmp_path_factory.mktemp("clips")
    for number in range(CLIPS):
        write_wave(folder / f"{number}.wav", speechlike(0.5 + number / 4, number))
    (folder / "3.wav").write_bytes(b"no sound at all")
    rows = [{"audio": f"{number}.wav"} for number in range(CLIPS)]
    return read_manifest(manifest(folder / "manifest.jsonl", rows), texts=False)


@pytest.fixture(scope="module")
def lines(transcriber: Transcriber, utterances: list[Utterance]) -> list[dict[str, Any]]:
    return list(archive_lines(transcriber, utterances))


def test_there_is_a_line_for_every_recording_in_order(
    lines: list[dict[str, Any]], utterances: list[Utterance]
) -> None:
    assert [line["audio_filepath"] for line in lines] == [each.audio for each in utterances]
    assert ["error" in line for line in lines] == [n == 3 for n in range(CLIPS)]
    assert np.isclose(lines[0]["duration"], 0.5)


def test_what_is_written_stays_however_often_it_dies(
    transcriber: Transcriber,
    utterances: list[Utterance],
    lines: list[dict[str, Any]],
    tmp_path: Path,
) -> None:
    archive, tried = Archive(tmp_path / "out.jsonl"), 0
    while not archive.output.exists():
        begin = archive.written()
        missing = archive_lines(transcriber, utterances[begin:])
        # Dies two lines later, in the midst of the next.
        with contextlib.suppress(KeyboardInterrupt):
            archive.write(dying(missing, 2))
        if archive.part.exists():
            with archive.part.open("a") as file:
                file.write('{"audio_filepath": "')
        tried += 1
    assert tried == 4
    written = archive.output.read_text().splitlines()
    assert [json.loads(line) for line in written] == lines
    assert list(tmp_path.iterdir()) == [archive.output]


def dying(lines: Iterator[dict[str, Any]], after: int) -> Iterator[dict[str, Any]]:
    yield from itertools.islice(lines, after)
    for _ in lines:
        raise KeyboardInterrupt


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(WhisfusionError, match="out.jsonl.part: No such file"):
        Archive(tmp_path / "no" / "out.jsonl").write([])
