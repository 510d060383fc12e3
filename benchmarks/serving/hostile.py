"""Bodies of those who mean harm, or know no better: what they are answered, and who suffers."""

import asyncio
import io
import random
import struct
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import av
import httpx
import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.serving.common import Server, bodies, serving
from whisfusion_jax.data.manifest import read_manifest

Draw = random.Random


def hostile(
    manifest: Path, /, count: int = 2000, at_once: int = 8, decoder: str = "diffusion"
) -> int:
    """Send hostile bodies, and among twenty of them a good one.

    Args:
        manifest: good recordings.
        count: hostile bodies.
        at_once: how many are under way.
        decoder: of the server.
    """
    good = bodies(read_manifest(manifest)[:20])
    kinds = _kinds(good)
    draw = Draw(0)
    # 200 in a row come before memory is looked at: allocators keep what they once had.
    flags = ["--decoder", decoder, "--batch-size", "8", "--strict", "--seconds", "600"]
    with serving(flags) as server:
        texts = asyncio.run(_send(server, [("good", each) for each in good], 1))["good", 200]
        sent = [_next(kinds, draw) for _ in range(count)]
        for place in range(0, count, 20):
            sent[place] = ("good", good[place // 20 % len(good)])
        early = asyncio.run(_send(server, sent[:400], at_once))
        before = server.memory()
        late = asyncio.run(_send(server, sent[400:], at_once))
        after = server.memory()
    found = early + late
    table = Table(title=f"{count} bodies")
    for column in ("", "answered with"):
        table.add_column(column)
    for kind in [*kinds, "good"]:
        own = {status: n for (each, status), n in sorted(found.items()) if each == kind}
        table.add_row(kind, ", ".join(f"{status}: {n}" for status, n in own.items()))
    Console().print(table)
    Console().print(
        f"memory {before:.0f} MB after 400, {after:.0f} MB at the end ({after / before - 1:+.1%})"
    )
    Console().print(f"good ones answered before: {texts}")
    return 0


def _next(kinds: dict[str, Callable[[Draw], bytes]], draw: Draw) -> tuple[str, bytes]:
    kind = draw.choice([*kinds])
    return kind, kinds[kind](draw)


def _kinds(good: list[bytes]) -> dict[str, Callable[[Draw], bytes]]:
    bomb, endless = _silence(24 * 3600), _silence(700)

    def cut(draw: Draw) -> bytes:
        whole = draw.choice(good)
        return whole[: draw.randrange(len(whole) * 9 // 10)]

    def flipped(draw: Draw) -> bytes:
        body = bytearray(draw.choice(good))
        for _ in range(draw.randrange(1, 400)):
            body[draw.randrange(min(len(body), 2000))] = draw.randrange(256)
        return bytes(body[: len(body) // 2])

    def lies(draw: Draw) -> bytes:
        return _wave(
            rate=draw.choice([0, 1, 7, 999, 10_000_000, 2**32 - 1]),
            channels=draw.choice([0, 1, 255, 65_535]),
            bits=draw.choice([0, 1, 16, 255]),
            size=draw.choice([0, 2**31 - 2, 2**31 + 5]),
        )

    def promises(draw: Draw) -> bytes:
        return _wave(16_000, 1, 16, size=draw.choice([10**9, 2**31 - 70_000]))

    texts = [b"<html>", b'{"a": 1}', b"%PDF-1.7\n", b"PK\x03\x04", b"\x89PNG\r\n\x1a\n", b"GIF89a"]
    lists = [
        b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://127.0.0.1/a\n#EXT-X-ENDLIST\n",
        b"#EXTM3U\n#EXTINF:9,\nfile:///etc/passwd\n",
        b"ffconcat version 1.0\nfile README.md\n",
        b"v=0\nc=IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\n",
    ]
    return {
        "truncated": cut,
        "random": lambda draw: draw.randbytes(draw.randrange(50_000)),
        "damaged head, half": flipped,
        "other types": lambda draw: draw.choice(texts) + draw.randbytes(draw.randrange(5000)),
        "playlists": lambda draw: draw.choice(lists),
        "headers that lie": lies,
        "headers that promise hours": promises,
        "a day of silence in a MB": lambda draw: bomb,
        "longer than allowed": lambda draw: endless,
    }


def _wave(rate: int, channels: int, bits: int, size: int) -> bytes:
    form = struct.pack("<HHIIHH", 1, channels, rate, 2 * rate % 2**32, 2, bits)
    head = b"WAVEfmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", size)
    return b"RIFF" + struct.pack("<I", (size + 36) % 2**32) + head + bytes(4000)


def _silence(seconds: int) -> bytes:
    """A FLAC of nothing."""
    file = io.BytesIO()
    with av.open(file, "w", "flac") as container:
        stream = container.add_stream("flac", rate=8000, layout="mono")
        minute = av.AudioFrame.from_ndarray(np.zeros((1, 8000 * 60), np.int16), "s16", "mono")
        minute.sample_rate = 8000
        for _ in track(range(-(-seconds // 60)), description="silence", transient=True):
            container.mux(stream.encode(minute))
        container.mux(stream.encode(None))
    return file.getvalue()


async def _send(
    server: Server, sent: list[tuple[str, bytes]], at_once: int
) -> Counter[tuple[str, int]]:
    found: Counter[tuple[str, int]] = Counter()
    waiting = iter(sent)

    async def one() -> None:
        async with httpx.AsyncClient(timeout=300) as client:
            for kind, body in waiting:
                try:
                    response = await client.post(
                        f"{server.url}/v1/audio/transcriptions",
                        files={"file": ("a", body)},
                        data={"model": "x"},
                    )
                    found[kind, response.status_code] += 1
                except httpx.TransportError:
                    found[kind, 0] += 1

    await asyncio.gather(*(one() for _ in range(at_once)))
    return found
