"""A server in a process of its own, and small recordings to send to it."""

import io
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import wave
from pathlib import Path

import av
import numpy as np
import openai

from tests.parallel.launch import ROOT
from tests.support import speechlike


def sound(number: int) -> bytes:
    """A file of half a second or more."""
    return sounded(speechlike(0.5 + number / 2, number))


def sounded(samples: np.ndarray) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as opened:
        opened.setparams((1, 2, 16_000, 0, "NONE", ""))
        opened.writeframes((samples * 32767).astype(np.int16).tobytes())
    return file.getvalue()


def webm(samples: np.ndarray) -> bytes:
    """As a browser records it."""
    file = io.BytesIO()
    with av.open(
        file, "w", "webm", options={"cluster_time_limit": "100", "live": "1"}
    ) as container:
        stream = container.add_stream("libopus", rate=48_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples[None], "flt", "mono")
        frame.sample_rate = 16_000
        for part in av.AudioResampler("flt", "mono", 48_000, 960).resample(frame):
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    return file.getvalue()


class Served:
    """A server in a process of its own."""

    def __init__(
        self, bundle: Path, *flags: str, key: str = "", first: str = "", **environment: str
    ) -> None:
        """Start it; `first` is what Python does before."""
        with socket.socket() as free:
            free.bind(("localhost", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        keyed = {"WHISFUSION_API_KEY": key} if key else {}
        self.process = subprocess.Popen(
            [sys.executable, *(["-c", first] if first else []), "-m", "whisfusion_jax", "serve",
             "--bundle", str(bundle), "--port", str(self.port), *flags],
            cwd=ROOT, env={**os.environ, **keyed, **environment},
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
