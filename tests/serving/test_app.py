"""The server, by the official client and by hand: what it answers, refuses and finishes."""

import contextlib
import io
import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import openai
import pytest

from tests.serving.launch import Served, sound, sounded
from tests.support import random_bundle, speechlike
from whisfusion_jax import Transcriber
from whisfusion_jax.bundle import Bundle

CLIPS = 6


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(random_bundle(tmp_path_factory.mktemp("served") / "bundle").path)


@pytest.fixture(scope="module")
def served(bundle: Path) -> Iterator[Served]:
    server = Served(
        bundle, "--decoder", "ar", "--seconds", "20", "--megabytes", "1", "--body-seconds", "3"
    )
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
        (sound(0), {"temperature": 7}, 400, "temperature"),
        (sound(0), {"extra_body": {"fix": ["a=b"]}}, 400, "known"),
        (b"ffconcat version 1.0\nfile README.md\n", {}, 400, "not readable as audio"),
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


def test_a_prompt_is_what_transcribe_makes_of_it(
    served: Served, bundle: Path, texts: list[str]
) -> None:
    create, prompt = served.client().audio.transcriptions.create, "Names and nothing else"
    found = create(model="whisper-1", file=("3.wav", sound(3)), prompt=prompt).text
    prompted = Transcriber(Bundle.open(bundle), decoder="ar", initial_prompt=prompt)
    assert found == prompted.transcribe(io.BytesIO(sound(3))).text != texts[3]


def test_a_model_of_english_translates_nothing(served: Served) -> None:
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
    server = Served(bundle, "--decoder", "ar", "--requests", "2", key="a key")
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


def by_hand(served: Served, *parts: bytes) -> bytes:
    """What the server answers to bytes that a socket sends."""
    with socket.create_connection(("127.0.0.1", served.port), timeout=30) as connection:
        for part in parts:
            connection.sendall(part)
        answer = b""
        with contextlib.suppress(ConnectionResetError):  # what is not read is not waited for
            while part := connection.recv(65536):
                answer += part
        return answer


def head(*lines: str) -> bytes:
    first = ("POST /v1/audio/transcriptions HTTP/1.1", "Host: x", "Connection: close", *lines)
    return "".join(f"{line}\r\n" for line in first).encode() + b"\r\n"


MULTIPART = "Content-Type: multipart/form-data; boundary=b"


def test_a_body_that_does_not_come_or_end_is_given_up(served: Served) -> None:
    begin = time.monotonic()
    assert b" 408 " in by_hand(served, head(MULTIPART, "Content-Length: 1000"), b"--b")
    assert 2.5 < time.monotonic() - begin < 10
    begun = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    chunks = [b"%x\r\n" % len(each) + each + b"\r\n" for each in (begun, *[b"0" * 300_000] * 4)]
    assert b" 413 " in by_hand(served, head(MULTIPART, "Transfer-Encoding: chunked"), *chunks)


def test_what_is_no_form_is_told_so(served: Served) -> None:
    for body in (b"", b"{}", b"--b--", b"--b\r\n\r\n\r\n--b--"):
        answer = by_hand(served, head(MULTIPART, f"Content-Length: {len(body)}"), body)
        assert answer.startswith(b"HTTP/1.1 4"), answer
        assert b'"error"' in answer


def test_another_sites_page_may_not_ask(served: Served) -> None:
    answer = by_hand(served, head("Origin: https://elsewhere", "Content-Length: 0"))
    assert b" 403 " in answer


def test_who_leaves_frees_the_place(served: Served, texts: list[str]) -> None:
    form = (
        b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nx\r\n'
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        + sounded(np.concatenate([speechlike(5, 1)] * 3))
        + b"\r\n--b--\r\n"
    )
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", served.port)) as connection:
            connection.sendall(head(MULTIPART, f"Content-Length: {len(form)}") + form)
    end = time.monotonic() + 20
    while "whisfusion_under_way 0.0" not in served.get("/metrics")[1]:
        assert time.monotonic() < end
        time.sleep(0.05)
    create = served.client().audio.transcriptions.create
    assert create(model="x", file=("0.wav", sound(0))).text == texts[0]


def test_nothing_is_written_to_disk(bundle: Path) -> None:
    limited = ["import os, resource, sys", "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))"]
    limited.append("os.execv(sys.executable, [sys.executable, *sys.argv[1:]])")
    server = Served(
        bundle, "--decoder", "ar", JAX_ENABLE_COMPILATION_CACHE="false", first="; ".join(limited)
    )
    server.wait()
    create = server.client().audio.transcriptions.create
    long = sounded(np.concatenate([speechlike(5, 1)] * 10))
    assert len(long) > 1_500_000  # what is larger than 1 MB would be
    assert create(model="x", file=("0.wav", long), response_format="verbose_json").duration == 50
    server.close()
