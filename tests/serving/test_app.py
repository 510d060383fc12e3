"""The server, by the official client and by hand: what it answers, refuses and finishes."""

import io
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import wave
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import openai
import pytest

from tests.parallel.launch import ROOT
from tests.support import random_bundle, speechlike
from whisfusion_jax import Transcriber
from whisfusion_jax.bundle import Bundle

CLIPS = 6


def sound(number: int) -> bytes:
    """A file of half a second or more."""
    return sounded(speechlike(0.5 + number / 2, number))


def sounded(samples: np.ndarray) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as opened:
        opened.setparams((1, 2, 16_000, 0, "NONE", ""))
        opened.writeframes((samples * 32767).astype(np.int16).tobytes())
    return file.getvalue()


class Served:
    """A server in a process of its own."""

    def __init__(self, bundle: Path, *flags: str, key: str = "") -> None:
        with socket.socket() as free:
            free.bind(("localhost", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "whisfusion_jax", "serve", "--bundle", str(bundle),
             "--decoder", "ar", "--batch-size", "4", "--port", str(self.port), *flags],
            cwd=ROOT, env={**os.environ, **({"WHISFUSION_API_KEY": key} if key else {})},
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def wait(self) -> None:
        end = time.monotonic() + 300
        while self.get("/ready")[0] != 200:
            assert self.process.poll() is None, self.process.communicate()[1]
            assert time.monotonic() < end
            time.sleep(0.2)

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(self.url + path) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def client(self, key: str = "none") -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0)

    def close(self) -> str:
        self.process.terminate()
        return self.process.communicate(timeout=60)[1]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(random_bundle(tmp_path_factory.mktemp("served") / "bundle").path)


@pytest.fixture(scope="module")
def served(bundle: Path) -> Iterator[Served]:
    server = Served(bundle, "--seconds", "20", "--megabytes", "1")
    server.wait()
    yield server
    server.close()


@pytest.fixture(scope="module")
def texts(bundle: Path) -> list[str]:
    transcriber = Transcriber(Bundle.open(bundle), decoder="ar", batch_size=4)
    return [transcriber.transcribe(io.BytesIO(sound(number))).text for number in range(CLIPS)]


def test_many_clients_at_once_get_the_texts_that_transcribe_gives(
    served: Served, texts: list[str]
) -> None:
    client = served.client()

    def ask(number: int) -> str:
        return client.audio.transcriptions.create(
            model="whisper-1", file=(f"{number}.wav", sound(number))
        ).text

    with ThreadPoolExecutor(12) as pool:
        found = list(pool.map(ask, [*range(CLIPS)] * 4))
    assert found == texts * 4
    assert len(set(texts)) > 1


def test_every_format(served: Served, texts: list[str]) -> None:
    create = served.client().audio.transcriptions.create
    given = {"model": "whisper-1", "file": ("2.wav", sound(2))}
    assert create(**given, response_format="text").strip() == texts[2]  # type: ignore[call-overload]
    srt = create(**given, response_format="srt")  # type: ignore[call-overload]
    vtt = create(**given, response_format="vtt")  # type: ignore[call-overload]
    assert srt.startswith("1\n00:00:0")
    assert vtt.startswith("WEBVTT\n")
    verbose = create(  # type: ignore[call-overload]
        **given, response_format="verbose_json", timestamp_granularities=["word", "segment"]
    )
    assert verbose.text == texts[2]
    assert verbose.duration == 1.5
    assert " ".join(word.word for word in verbose.words).split() == texts[2].split()
    assert all(0 <= word.start <= word.end <= 1.5 for word in verbose.words)
    assert verbose.segments[0].text.strip() == texts[2]


def test_events(served: Served, texts: list[str]) -> None:
    stream = served.client().audio.transcriptions.create(
        model="whisper-1", file=("1.wav", sound(1)), stream=True
    )
    found = list(stream)
    assert found[-1].type == "transcript.text.done"
    assert found[-1].text == texts[1]
    deltas = [each.delta for each in found if each.type == "transcript.text.delta"]
    assert "".join(deltas) == texts[1]


@pytest.mark.parametrize(
    ("body", "options", "status", "message"),
    [
        (b"no sound at all", {}, 400, "not readable as audio"),
        (b"", {}, 400, "audio"),
        (sound(0), {"language": "xx"}, 400, "xx"),
        (sound(0), {"response_format": "docx"}, 400, "response_format"),
        (sound(0), {"prompt": "Names"}, 400, "prompt"),
        (sound(0), {"temperature": 7}, 400, "temperature"),
        (sounded(speechlike(21, 0)), {}, 413, "20 s"),
        (b"0" * 1_100_000, {}, 413, "1 MB"),
    ],
)
def test_what_can_not_be_is_said(
    served: Served, body: bytes, options: dict[str, object], status: int, message: str
) -> None:
    with pytest.raises(openai.APIStatusError, match=message) as raised:
        served.client().audio.transcriptions.create(  # type: ignore[call-overload]
            model="whisper-1", file=("x.wav", body), **options
        )
    assert raised.value.status_code == status


def test_translation_is_another_server(served: Served) -> None:
    create = served.client().audio.translations.create
    with (
        pytest.warns(DeprecationWarning, match="deprecated"),
        pytest.raises(openai.BadRequestError, match="translate"),
    ):
        create(model="whisper-1", file=("0.wav", sound(0)))


def test_what_those_who_run_it_look_at(served: Served, bundle: Path) -> None:
    assert served.get("/health") == (200, '{"status":"alive"}')
    assert [each.id for each in served.client().models.list()] == [str(bundle)]
    status, exposed = served.get("/metrics")
    assert status == 200
    assert "whisfusion_latency_seconds_bucket" in exposed
    assert 'whisfusion_requests_total{status="200"}' in exposed


def test_a_key_a_crowd_and_an_end(bundle: Path, texts: list[str]) -> None:
    server = Served(bundle, "--requests", "2", key="a key")
    while server.get("/health")[0] != 200:
        time.sleep(0.1)
    with pytest.raises(openai.AuthenticationError):
        server.client("another").models.list()
    create = server.client("a key").audio.transcriptions.create

    def ask(samples: np.ndarray) -> str | int:
        try:
            return create(model="whisper-1", file=("a.wav", sounded(samples))).text
        except openai.APIStatusError as error:
            return error.status_code if error.response.headers["retry-after"] else 0

    assert ask(speechlike(1, 0)) == 503  # while it compiles
    server.wait()
    with ThreadPoolExecutor(12) as pool:
        found = set(pool.map(ask, [speechlike(3, 5)] * 24))
        assert found == {texts[5], 429}
        last = pool.submit(ask, np.concatenate([speechlike(5, 1)] * 60))
        while "whisfusion_under_way 1.0" not in server.get("/metrics")[1]:
            assert not last.done()
        said = server.close()
        assert isinstance(last.result(), str)  # it was accepted, so it is answered
    assert "Traceback" not in said


def test_json_has_every_letter(served: Served, texts: list[str]) -> None:
    client = served.client()
    raw = client.audio.transcriptions.with_raw_response.create(
        model="whisper-1", file=("3.wav", sound(3))
    )
    assert json.loads(raw.content) == {"text": texts[3]}
