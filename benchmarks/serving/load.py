"""Many clients at once: what is answered, how soon, and how much, beside one after another."""

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.common import load_faster_whisper, open_bundle
from benchmarks.serving.common import Server, bodies, serving
from whisfusion_jax.audio.read import read_audio
from whisfusion_jax.cli import keep_compiled_programs
from whisfusion_jax.data.manifest import read_manifest
from whisfusion_jax.transcription.transcriber import Transcriber


@dataclass
class Answers:
    """What came back."""

    statuses: Counter[int] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    """Of those with a text, in seconds."""
    seconds: float = 0.0
    """Of sound whose text came."""
    elapsed: float = 0.0
    """Until the last came."""
    wrong: int = 0

    def quantile(self, share: float) -> float:
        return float(np.quantile(self.latencies, share)) if self.latencies else 0.0


def load(
    manifest: Path,
    /,
    clients: int = 64,
    seconds: float = 60.0,
    most: int = 100,
    decoder: str = "diffusion",
    batch_size: int | None = None,
    batch_seconds: float | None = None,
    peer: bool = True,
) -> int:
    """Clients that ask again once they are answered, arrivals at 70 % of that, one alone, the end.

    Args:
        manifest: recordings to send.
        clients: at once.
        seconds: of each part.
        most: recordings, of the manifest's first.
        decoder: of the server.
        batch_size: of the server; without it its own.
        batch_seconds: likewise.
        peer: faster-whisper int8 as well, one recording after another, before and after.
    """
    utterances = read_manifest(manifest)[:most]
    sounds = bodies(utterances)
    lengths = [len(read_audio(each.audio)) / 16_000 for each in utterances]
    keep_compiled_programs()
    own = Transcriber.from_bundle("tiny.en", decoder=decoder)  # type: ignore[arg-type]
    files = [str(each.audio) for each in utterances]
    texts = [each.text for each in own.transcribe_many(files)]  # type: ignore[union-attr]
    del own
    theirs = [_one_after_another(sounds, lengths)] if peer else []
    named = {"--batch-size": batch_size, "--batch-seconds": batch_seconds}
    flags = [str(each) for pair in named.items() if pair[1] is not None for each in pair]
    with serving(["--decoder", decoder, *flags]) as server:
        full = asyncio.run(_crowd(server, sounds, lengths, texts, clients, seconds))
        fill = server.metric("batch_fill")
        rate = 0.7 * len(full.latencies) / full.elapsed
        calm = asyncio.run(_arrivals(server, sounds, lengths, texts, rate, seconds))
        alone = asyncio.run(_crowd(server, sounds, lengths, texts, 1, seconds))
        ended = asyncio.run(_ended(server, sounds, lengths, texts))
    if peer:
        theirs.append(_one_after_another(sounds, lengths))
    table = Table(title=" ".join(("tiny.en", decoder, *flags)))
    for column in ("", "answered", "wrong", "others", "p50 s", "p99 s", "RTFx"):
        table.add_column(column, justify="right" if column else "left")
    parts = {f"{clients} clients": full, f"{rate:.1f} a second": calm, "one client": alone}
    for name, found in parts.items():
        others = {code: n for code, n in found.statuses.items() if code != 200}
        table.add_row(
            name,
            str(found.statuses[200]),
            str(found.wrong),
            str(others or ""),
            f"{found.quantile(0.5):.2f}",
            f"{found.quantile(0.99):.2f}",
            f"{found.seconds / found.elapsed:.1f}",
        )
    for rtfx in theirs:
        table.add_row("faster-whisper int8, one by one", "", "", "", "", "", f"{rtfx:.1f}")
    console = Console()
    console.print(table)
    spread, own = (each.quantile(0.99) / each.quantile(0.5) for each in (calm, alone))
    console.print(
        f"batch fill {fill:.2f}; p99 / p50 at 70 %: {spread:.2f}; of one client: {own:.2f}"
    )
    if theirs:
        ratios = [full.seconds / full.elapsed / rtfx for rtfx in theirs]
        console.print(f"times faster-whisper: {min(ratios):.2f} to {max(ratios):.2f}")
    console.print(
        f"SIGTERM, {sum(ended.statuses.values())} sent: {dict(ended.statuses)}, wrong {ended.wrong}"
    )
    return 0


async def _ask(
    client: httpx.AsyncClient, server: Server, sound: bytes, length: float, text: str, to: Answers
) -> int:
    begin = time.perf_counter()
    try:
        response = await client.post(
            f"{server.url}/v1/audio/transcriptions",
            files={"file": ("a.flac", sound)},
            data={"model": "x"},
        )
        status = response.status_code
    except httpx.TransportError:
        status = 0
    to.statuses[status] += 1
    if status == 200:
        to.latencies.append(time.perf_counter() - begin)
        to.seconds += length
        to.wrong += response.json()["text"] != text
    return status


async def _crowd(
    server: Server,
    sounds: Sequence[bytes],
    lengths: Sequence[float],
    texts: Sequence[str],
    clients: int,
    seconds: float,
) -> Answers:
    found, begin = Answers(), time.perf_counter()
    end = begin + seconds

    async def one(number: int) -> None:
        async with httpx.AsyncClient(timeout=300) as client:
            while time.perf_counter() < end:
                at = number % len(sounds)
                status = await _ask(client, server, sounds[at], lengths[at], texts[at], found)
                if status == 429:
                    await asyncio.sleep(1)
                number += clients

    await asyncio.gather(*map(one, range(clients)))
    found.elapsed = time.perf_counter() - begin
    return found


async def _arrivals(
    server: Server,
    sounds: Sequence[bytes],
    lengths: Sequence[float],
    texts: Sequence[str],
    rate: float,
    seconds: float,
) -> Answers:
    """Requests that come whenever they come, so many a second in the mean."""
    found, draw = Answers(), random.Random(0)
    async with httpx.AsyncClient(timeout=300, limits=httpx.Limits(max_connections=None)) as client:
        tasks, begin, at = [], time.perf_counter(), 0.0
        while (at := at + draw.expovariate(rate)) < seconds:
            await asyncio.sleep(max(0.0, begin + at - time.perf_counter()))
            n = draw.randrange(len(sounds))
            ask: Awaitable[int] = _ask(client, server, sounds[n], lengths[n], texts[n], found)
            tasks.append(asyncio.create_task(ask))  # type: ignore[arg-type]
        await asyncio.gather(*tasks)
    found.elapsed = time.perf_counter() - begin
    return found


async def _ended(
    server: Server, sounds: Sequence[bytes], lengths: Sequence[float], texts: Sequence[str]
) -> Answers:
    """Forty requests, and SIGTERM half a second behind them; whoever was let in is answered."""
    found, count = Answers(), 40
    async with httpx.AsyncClient(timeout=300, limits=httpx.Limits(max_connections=None)) as client:
        tasks = [
            asyncio.create_task(_ask(client, server, sounds[n], lengths[n], texts[n], found))
            for n in range(count)
        ]
        await asyncio.sleep(0.5)
        server.process.send_signal(signal.SIGTERM)
        await asyncio.gather(*tasks)
    server.process.wait()
    return found


def _one_after_another(sounds: Sequence[bytes], lengths: Sequence[float]) -> float:
    """RTFx of faster-whisper's int8 on two cores, decoding included."""
    model = load_faster_whisper(open_bundle("tiny.en"), "int8")
    ask: Callable[[bytes], object] = lambda sound: [  # noqa: E731
        each.text for each in model.transcribe(BytesIO(sound), language="en", beam_size=1)[0]
    ]
    ask(sounds[0])
    begin = time.perf_counter()
    for sound in sounds:
        ask(sound)
    return sum(lengths) / (time.perf_counter() - begin)
