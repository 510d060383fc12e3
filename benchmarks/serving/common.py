"""A server in a process of its own, on this machine, and what it says of itself."""

import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
from rich.console import Console

from whisfusion_jax.data.manifest import Utterance


class Server:
    """Its process, and its address."""

    def __init__(self, flags: Sequence[str]) -> None:
        with socket.socket() as free:
            free.bind(("localhost", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "whisfusion_jax", "serve", "--port", str(self.port), *flags],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while True:
            try:
                if httpx.get(f"{self.url}/ready").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            if self.process.poll() is not None:
                raise RuntimeError(f"the server ended: {self.process.args}")
            time.sleep(0.2)

    def metric(self, name: str) -> float:
        text = httpx.get(f"{self.url}/metrics").text
        found = re.search(rf"^whisfusion_{name} (\S+)$", text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    def memory(self) -> float:
        """MB that it and its decoders have in memory."""
        found = subprocess.run(
            ["ps", "-o", "pid=,ppid=,rss=", "-A"], capture_output=True, text=True, check=True
        )
        rows = [tuple(map(int, line.split())) for line in found.stdout.splitlines()]
        own = self.process.pid
        return sum(rss for pid, parent, rss in rows if own in (pid, parent)) / 1024


@contextmanager
def serving(flags: Sequence[str]) -> Iterator[Server]:
    Console(stderr=True).print("[dim]starting the server[/dim]")
    server = Server(flags)
    try:
        yield server
    finally:
        server.process.terminate()
        server.process.wait()


def bodies(utterances: Sequence[Utterance]) -> list[bytes]:
    return [Path(each.audio).read_bytes() for each in utterances]
