"""An archive by several workers, of which one dies."""

import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import ray

from tests.support import manifest, random_bundle, speechlike
from tests.training.tiny import write_wave
from whisfusion_jax import Transcriber
from whisfusion_jax.bundle import Bundle
from whisfusion_jax.data.manifest import read_manifest
from whisfusion_jax.errors import WhisfusionError
from whisfusion_jax.transcription.archive import archive_lines
from whisfusion_jax.transcription.on_ray import archive_lines_on_ray

# Of Ray's own making: it starts its processes by a fork.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),
    pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning"),
]

CLIPS = 150


class Mortal(Transcriber):
    """Its process is killed over a recording, the first time."""

    died: Path

    def transcribe_many(self, sources: Any, *args: Any, **options: Any) -> Iterator[Any]:
        for number, each in enumerate(super().transcribe_many(sources, *args, **options)):
            if number == 7 and not self.died.exists():
                self.died.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            yield each


def mortal(bundle: Path, died: Path) -> Transcriber:
    made = Mortal(Bundle.open(bundle), batch_size=8)
    made.died = died
    return made


@pytest.fixture
def cluster() -> Iterator[None]:
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.mark.usefixtures("cluster")
def test_all_lines_are_there_once_and_in_order_though_a_worker_dies(tmp_path: Path) -> None:
    bundle = random_bundle(tmp_path / "bundle").path
    for number in range(CLIPS):
        write_wave(tmp_path / f"{number}.wav", speechlike(0.5 + number % 5 / 4, number))
    (tmp_path / "70.wav").write_bytes(b"no sound at all")
    listed = manifest(tmp_path / "list.jsonl", [{"audio": f"{n}.wav"} for n in range(CLIPS)])
    utterances = read_manifest(listed, texts=False)
    expected = list(archive_lines(Transcriber(Bundle.open(bundle), batch_size=8), utterances))
    died = tmp_path / "died"
    found = archive_lines_on_ray(partial(mortal, bundle, died), utterances, "auto", workers=2)
    assert list(found) == expected
    assert died.exists()


def test_a_cluster_that_is_not_there_is_named() -> None:
    lines = archive_lines_on_ray(Transcriber, [], "localhost:1")
    with pytest.raises(WhisfusionError, match="--ray localhost:1"):
        next(lines)
