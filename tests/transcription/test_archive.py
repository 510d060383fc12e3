"""Manifests of many recordings: shares, interruptions, what can't be read."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.support import manifest, random_bundle, speechlike
from tests.training.tiny import write_wave
from whisfusion_jax import Transcriber
from whisfusion_jax.bundle import Bundle
from whisfusion_jax.data.manifest import Utterance, read_manifest
from whisfusion_jax.errors import WhisfusionError
from whisfusion_jax.transcription.archive import Archive, transcribe_archive

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
def expected(
    transcriber: Transcriber, utterances: list[Utterance], tmp_path_factory: pytest.TempPathFactory
) -> str:
    archive = Archive(tmp_path_factory.mktemp("whole") / "out.jsonl", CLIPS)
    (failure,) = transcribe_archive(transcriber, utterances, archive)
    assert "3.wav" in failure
    assert archive.join()
    return archive.output.read_text()


def test_there_is_a_line_for_every_recording_in_order(
    expected: str, utterances: list[Utterance]
) -> None:
    lines = [json.loads(line) for line in expected.splitlines()]
    assert [line["audio_filepath"] for line in lines] == [each.audio for each in utterances]
    assert ["error" in line for line in lines] == [n == 3 for n in range(CLIPS)]
    assert np.isclose(lines[0]["duration"], 0.5)


@pytest.mark.parametrize("processes", [1, 2, 3, 9])
def test_shares_join_to_the_same_lines_however_often_they_die(
    transcriber: Transcriber,
    utterances: list[Utterance],
    expected: str,
    processes: int,
    tmp_path: Path,
) -> None:
    archive = Archive(tmp_path / "out.jsonl", CLIPS, processes)
    for process in reversed(range(processes)):
        assert not archive.join()
        transcribe_archive(transcriber, utterances, archive, process)
        # As if it had died while it wrote: a line is torn, the ones behind it are lost.
        part = archive.part(process)
        part.write_bytes(part.read_bytes()[: part.stat().st_size * 2 // 3])
        transcribe_archive(transcriber, utterances, archive, process)
    assert archive.join()
    assert archive.output.read_text() == expected
    assert list(tmp_path.iterdir()) == [archive.output]


def test_another_split_of_the_work_is_refused(tmp_path: Path) -> None:
    Archive(tmp_path / "out.jsonl", CLIPS, 2).part(0).touch()
    with pytest.raises(WhisfusionError, match="another number of processes"):
        Archive(tmp_path / "out.jsonl", CLIPS, 3).check()


def test_a_place_that_cannot_be_written_is_named(
    transcriber: Transcriber, utterances: list[Utterance], tmp_path: Path
) -> None:
    with pytest.raises(WhisfusionError, match="part-0-of-1: No such file"):
        transcribe_archive(transcriber, utterances, Archive(tmp_path / "no" / "out.jsonl", CLIPS))
