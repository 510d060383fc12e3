"""Live captions and the page, by the official client, a plain socket and a browser, on tiny.en."""

import base64
import contextlib
import json
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, InvalidStatus
from websockets.sync.client import connect

from tests.parallel.launch import ROOT
from tests.serving.launch import Served, sounded, webm
from whisfusion_jax.audio.read import read_audio

SAMPLE = ROOT / "samples/LJ001-0018.flac"
TEXT = (
    "The first books were printed in black letter, i.e. the letter which was a Gothic development "
    "of the ancient Roman character."
)
PROMPT = "the first bokes were prynted in blacke letter"
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    server = Served(Path("tiny.en"), "--batch-size", "1", "--streams", "2")
    server.wait()
    yield server
    assert "Traceback" not in server.close()


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    """[n] float32, with a pause behind it."""
    return np.pad(read_audio(SAMPLE), (0, 16_000))


def pcm(samples: np.ndarray, rate: int = 16_000) -> bytes:
    """Little-endian, by linear interpolation."""
    at = np.arange(0, len(samples), 16_000 / rate)
    return (np.interp(at, np.arange(len(samples)), samples) * 32767).astype("<i2").tobytes()


def letters(text: str) -> list[str]:
    return "".join(each for each in text.lower() if each.isalnum() or each == " ").split()


def differ(found: str, text: str = TEXT) -> int:
    """Words in which a text differs, roughly."""
    return len(set(letters(found)) ^ set(letters(text)))


def until_written(connection: Any, texts: int = 1) -> dict[str, list[Any]]:
    """What comes until so many utterances are written, by its type."""
    found: dict[str, list[Any]] = {}
    kind = "conversation.item.input_audio_transcription.completed"
    while len(found.get(kind, ())) < texts:
        event = connection.recv()
        assert event.type != "error", event
        found.setdefault(event.type, []).append(event)
    return found


# Its own way of connecting is deprecated by the library that it connects by.
@pytest.mark.filterwarnings("ignore:connect:DeprecationWarning")
def test_the_official_client_is_told_words_then_texts(served: Served, speech: np.ndarray) -> None:
    named = "conversation.item.input_audio_transcription."
    with served.client().realtime.connect(extra_query={"intent": "transcription"}) as connection:
        assert connection.recv().type == "session.created"
        connection.session.update(
            session={
                "type": "transcription",
                "audio": {
                    "input": {
                        "format": {"type": "audio/pcm", "rate": 24_000},
                        "transcription": {
                            "model": "tiny.en",
                            "language": "en",
                            "prompt": PROMPT,
                        },
                        "turn_detection": {"type": "server_vad", "silence_duration_ms": 700},
                    }
                },
            }
        )
        updated = connection.recv()
        assert updated.type == "session.updated"
        assert updated.session.audio.input.turn_detection.silence_duration_ms == 700
        assert updated.session.audio.input.transcription.prompt == PROMPT
        sound = pcm(speech, 24_000)
        for begin in range(0, len(sound), 4801):  # torn between the bytes of a sample
            part = base64.b64encode(sound[begin : begin + 4801]).decode()
            connection.input_audio_buffer.append(audio=part)
        found = until_written(connection)
    (completed,) = found[f"{named}completed"]
    assert differ(completed.transcript) <= 2
    assert "black letter i.e." in completed.transcript  # no comma, as in the prompt
    deltas = "".join(each.delta for each in found[f"{named}delta"])
    assert differ(deltas) <= 3
    (begun,), (ended,) = (
        found[f"input_audio_buffer.speech_{each}"] for each in ("started", "stopped")
    )
    assert begun.audio_start_ms < 500
    assert 7000 < ended.audio_end_ms < 8500
    assert begun.item_id == ended.item_id == completed.item_id
    assert completed.item_id == found["input_audio_buffer.committed"][0].item_id


def test_the_betas_messages_and_ends_by_hand(served: Served, speech: np.ndarray) -> None:
    url = served.url.replace("http", "ws") + "/v1/realtime?intent=transcription"
    with connect(url, additional_headers={"OpenAI-Beta": "realtime=v1"}) as socket:

        def told(kind: str) -> dict[str, Any]:
            while (event := json.loads(socket.recv(timeout=60)))["type"] != kind:
                assert event["type"] != "error", event
            return event

        assert told("transcription_session.created")
        session = {"input_audio_format": "pcm16", "turn_detection": None}
        socket.send(json.dumps({"type": "transcription_session.update", "session": session}))
        assert told("transcription_session.updated")["session"]["turn_detection"] is None
        for _ in range(2):
            audio = base64.b64encode(pcm(speech, 24_000)).decode()
            socket.send(json.dumps({"type": "input_audio_buffer.append", "audio": audio}))
            socket.send(json.dumps({"type": "input_audio_buffer.commit"}))
            found = told("conversation.item.input_audio_transcription.completed")
            assert differ(found["transcript"]) <= 2
        for wrong in (
            "no json",
            "[]",
            '{"type": "response.create"}',
            '{"type": "input_audio_buffer.append", "audio": "?"}',
            '{"type": "input_audio_buffer.append"}',
            '{"type": "session.update", "session": {"input_audio_format": "mp3"}}',
            '{"type": "session.update", "session": {"audio": 3}}',
        ):
            socket.send(wrong)
            assert json.loads(socket.recv(timeout=60))["type"] == "error", wrong


def captions(
    served: Served, parts: list[bytes], query: str = "", pause: float = 0.0
) -> list[dict[str, Any]]:
    """What the plain route tells of bytes that are sent so many seconds apart."""
    url = served.url.replace("http", "ws") + "/v1/stream" + query
    with connect(url) as socket:

        def send() -> None:
            with contextlib.suppress(ConnectionClosed):
                for part in parts:
                    socket.send(part)
                    time.sleep(pause)
                socket.send("end")

        sending = threading.Thread(target=send)
        sending.start()
        found = []
        with contextlib.suppress(ConnectionClosedError):  # it says why before
            for message in socket:
                found.append(json.loads(message))
        sending.join()
    return found


@pytest.mark.parametrize("kind", ["pcm", "webm"])
def test_bytes_in_json_out(served: Served, speech: np.ndarray, kind: str) -> None:
    sound = webm(speech) if kind == "webm" else pcm(speech)
    parts = [sound[begin : begin + 3001] for begin in range(0, len(sound), 3001)]
    query = "" if kind == "webm" else "?rate=16000"
    found = captions(served, parts, query, pause=4.0 / len(parts))
    (text,) = (each for each in found if each["type"] == "text")
    assert differ(text["text"]) <= 2
    shown = letters("".join(each["delta"] for each in found if each["type"] == "words"))
    assert len(shown) > 3
    assert shown == letters(TEXT)[: len(shown)]
    assert text["start"] < 0.5
    assert 7 < text["end"] < 8.5


def test_what_is_no_sound_is_told_so(served: Served) -> None:
    (error,) = captions(served, [b"no container" * 100])
    assert error["type"] == "error"
    assert "not readable" in error["message"]
    (error,) = captions(served, [], "?rate=7")
    assert "rate" in error["message"]
    with pytest.raises(InvalidStatus):
        captions(served, [], "?language=xx")


def test_streams_are_counted_and_given_back(served: Served, speech: np.ndarray) -> None:
    url = served.url.replace("http", "ws") + "/v1/stream?rate=16000"
    with connect(url), connect(url), pytest.raises(InvalidStatus), connect(url):
        pass
    end = time.monotonic() + 20
    while "whisfusion_captions 0.0" not in served.get("/metrics")[1]:
        assert time.monotonic() < end
        time.sleep(0.05)

    def caption(_: int) -> str:
        found = captions(served, [pcm(speech)], "?rate=16000")
        return found[-1]["text"]

    with ThreadPoolExecutor(2) as pool:
        assert all(differ(text) <= 2 for text in pool.map(caption, range(2)))


def test_a_page_of_another_site_hears_nothing(served: Served) -> None:
    url = served.url.replace("http", "ws") + "/v1/stream?rate=16000"
    with pytest.raises(InvalidStatus), connect(url, origin="https://elsewhere"):  # type: ignore[arg-type]
        pass


def test_words_that_are_known_are_written_around(served: Served) -> None:
    create = served.client().audio.transcriptions.create
    file = ("a.flac", SAMPLE.read_bytes())
    known = create(model="x", file=file, extra_body={"fix": ["Gothic=Gothick"]}).text
    assert known == TEXT.replace("Gothic", "Gothick")
    with pytest.raises(openai.BadRequestError, match="HEARD=KNOWN"):
        create(model="x", file=file, extra_body={"fix": ["=?"]})


# The page


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory, speech: np.ndarray) -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium here")
    said = tmp_path_factory.mktemp("microphone") / "said.wav"
    said.write_bytes(sounded(np.pad(speech, (0, 160_000))))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=[
                "--no-sandbox", "--disable-gpu", "--no-first-run",
                "--disable-background-networking", "--use-fake-ui-for-media-stream",
                "--use-fake-device-for-media-stream",
                f"--use-file-for-fake-audio-capture={said}%noloop",
            ],
        )  # fmt: skip
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, served: Served) -> Iterator[Page]:
    """On a phone; whatever its scripts complain of fails the test."""
    page = browser.new_page(viewport={"width": 360, "height": 740})
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: complaints.append(request.url) if not request.url.startswith(
        (served.url, "blob:", "data:")) else None)  # fmt: skip
    page.goto(served.url)
    expect(page.locator("#model")).to_contain_text("diffusion")
    yield page
    page.close()
    assert complaints == []


def written(page: Page) -> str:
    expect(page.locator("#written")).to_be_visible(timeout=30_000)
    expect(page.locator(".masked.word")).to_have_count(0)
    return " ".join(page.locator(".word").all_text_contents())


def test_a_file_fills_the_canvas_and_a_word_is_corrected(page: Page) -> None:
    page.set_input_files("#file", SAMPLE)
    expect(page.locator(".masked.word").first).to_be_visible(timeout=30_000)
    assert written(page) == TEXT
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    word = page.locator(".word", has_text="Gothic")
    word.focus()
    page.keyboard.press("Enter")
    page.keyboard.type("Gothick")
    page.keyboard.press("Enter")
    expect(page.locator("#say")).to_contain_text("written again")
    assert written(page) == TEXT.replace("Gothic", "Gothick")
    for format, begin in (("txt", "The first"), ("srt", "1\n00:00:00,"), ("vtt", "WEBVTT\n\n00:")):
        with page.expect_download() as download:
            page.locator("nav button", has_text=format).click()
        assert download.value.suggested_filename == f"LJ001-0018.{format}"
        text = Path(download.value.path()).read_text()
        assert text.startswith(begin)
        assert "Gothick" in text


def test_a_microphone_is_captioned_then_written(page: Page) -> None:
    page.locator("#record").click()
    expect(page.locator("#stands")).to_contain_text("printed in", timeout=30_000)
    page.locator("#record").click()
    assert "printed in" in written(page)


def test_a_strange_file_is_said(page: Page, tmp_path: Path) -> None:
    strange = tmp_path / "strange.mp3"
    strange.write_text("no sound")
    page.set_input_files("#file", strange)
    expect(page.locator("#say")).to_contain_text("not readable")
    expect(page.locator("#written")).to_be_hidden()
