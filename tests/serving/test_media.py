"""Recordings of strangers, decoded in processes of their own."""

import io
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from tests.parallel.launch import ROOT
from tests.serving.launch import sound, sounded, webm
from tests.support import speechlike
from whisfusion_jax.audio.read import read_audio
from whisfusion_jax.errors import AudioError, WhisfusionError
from whisfusion_jax.serving.media import Media, TooLongError

SAMPLE = ROOT / "samples/LJ001-0002.flac"


@pytest.fixture(scope="module")
def media() -> Iterator[Media]:
    opened = Media(processes=1, seconds=10, patience=20, streams=1)
    yield opened
    opened.close()


def test_samples_are_those_that_read_audio_gives(media: Media) -> None:
    assert np.array_equal(media.decode(SAMPLE.read_bytes()).result(), read_audio(SAMPLE))


@pytest.mark.parametrize("body", [b"", b"no sound", sound(1)[:30], b"ffconcat version 1.0\nfile a"])
def test_what_is_no_recording_costs_nobody_else(media: Media, body: bytes) -> None:
    with pytest.raises(AudioError, match="not readable"):
        media.decode(body).result()
    assert len(media.decode(sound(1)).result()) == 16_000


def test_what_is_too_long_is_read_no_further(media: Media) -> None:
    with pytest.raises(TooLongError, match="10 s"):
        media.decode(sounded(np.zeros(16_000 * 3600, np.float32))).result()
    assert len(media.decode(sound(1)).result()) == 16_000


def test_what_takes_too_much_time_or_dies_costs_one_recording() -> None:
    # 24 hours of silence are 1 MB as FLAC, and take more than a moment.
    file = io.BytesIO()
    with av.open(file, "w", "flac") as container:
        stream = container.add_stream("flac", rate=8000, layout="mono")
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 8000 * 60), np.int16), "s16", "mono")
        silence.sample_rate = 8000
        for _ in range(24 * 60):
            container.mux(stream.encode(silence))
        container.mux(stream.encode(None))
    media = Media(processes=1, seconds=1e6, patience=0.5, streams=1)
    assert len(media.decode(sound(1)).result()) == 16_000  # it has started
    begin = time.monotonic()
    with pytest.raises(AudioError, match="took too much"):
        media.decode(file.getvalue()).result()
    assert time.monotonic() - begin < 10
    assert len(media.decode(sound(1)).result()) == 16_000
    media.close()


def test_a_container_is_decoded_as_it_comes(media: Media) -> None:
    samples = speechlike(4, 3)
    body, counts, some = webm(samples), [], threading.Event()

    def take(part: np.ndarray) -> None:
        counts.append(len(part))
        if sum(counts) > 16_000:
            some.set()

    coming = media.stream(take)
    with pytest.raises(WhisfusionError, match="too many"):
        media.stream(take)
    half = len(body) // 2
    for begin in range(0, half, 500):
        coming.add(body[begin : min(begin + 500, half)])
    assert some.wait(20)
    assert sum(counts) < 2.2 * 16_000
    coming.add(body[half:])
    coming.end()
    assert abs(sum(counts) - len(samples)) < 1600
    coming.close()
    again = media.stream(take)
    again.add(b"no container" * 1000)
    with pytest.raises(AudioError, match="not readable"):
        again.end()
    again.close()


def test_nothing_of_the_server_is_opened(media: Media, tmp_path: Path) -> None:
    (tmp_path / "secret.wav").write_bytes(sound(1))
    for text in (
        f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{tmp_path}/secret.wav\n#EXT-X-ENDLIST\n",
        f"ffconcat version 1.0\nfile '{tmp_path}/secret.wav'\n",
        f"v=0\nc=IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\na=x:{tmp_path}\n",
    ):
        with pytest.raises(AudioError):
            media.decode(text.encode()).result()


def test_decoding_needs_no_jax() -> None:
    names = "import sys, whisfusion_jax.serving.media_worker; print('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", names], capture_output=True, check=True)
    assert done.stdout.strip() == b"False"
