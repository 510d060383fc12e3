"""Recordings that are played in real time: how late each word is shown, and what is taken back."""

import asyncio
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from pathlib import Path

import jiwer
import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from websockets.asyncio.client import connect

from benchmarks.serving.common import Server, serving
from whisfusion_jax.audio.read import read_audio
from whisfusion_jax.cli import keep_compiled_programs
from whisfusion_jax.data.manifest import read_manifest
from whisfusion_jax.text.normalise import normaliser_for
from whisfusion_jax.transcription.transcriber import Transcriber
from whisfusion_jax.transcription.transcript import Transcript


@dataclass
class Captioned:
    """What was shown of one recording."""

    words: list[tuple[str, float]] = field(default_factory=list)
    """Those that stood, and when they came, in seconds of the recording."""
    texts: list[str] = field(default_factory=list)


def live(
    manifest: Path,
    /,
    count: int = 20,
    streams: int = 1,
    decoder: str = "diffusion",
    batch_size: int = 4,
    shortest: float = 4.0,
) -> int:
    """Play recordings to a server in real time.

    Args:
        manifest: recordings with texts.
        count: how many of them, the first ones that are long enough.
        streams: at once.
        decoder: of the server.
        batch_size: of the server.
        shortest: seconds of a recording.
    """
    chosen, sounds = [], []
    for utterance in read_manifest(manifest):
        samples = read_audio(utterance.audio)
        if len(samples) >= shortest * 16_000 and len(chosen) < count:
            chosen.append(utterance)
            sounds.append(samples)
    keep_compiled_programs()
    own = Transcriber.from_bundle("tiny.en", decoder=decoder, word_times=True)  # type: ignore[arg-type]
    offline = [own.transcribe(samples) for samples in sounds]
    del own
    with serving(["--decoder", decoder, "--batch-size", str(batch_size)]) as server:
        found = asyncio.run(_play_all(server, sounds, streams))
    normalise = normaliser_for("en")
    said = [normalise(each.text) for each in chosen]

    def error(texts: Sequence[str]) -> float:
        return 100 * jiwer.wer(said, [normalise(each) or "-" for each in texts])

    errors = [error([each.text for each in offline]), error([" ".join(e.texts) for e in found])]
    late = [delay for pair in zip(found, offline, strict=True) for delay in delays(*pair)]
    shown = sum(len(each.words) for each in found)
    others = sum(map(changed, found))
    table = Table(title=f"{len(found)} recordings, {streams} at once, {decoder}")
    for column in ("measure", "found"):
        table.add_column(column, justify="right" if column == "found" else "left")
    table.add_row("WER offline, %", f"{errors[0]:.2f}")
    table.add_row("WER of final texts, %", f"{errors[1]:.2f}")
    table.add_row("times offline", f"{errors[1] / errors[0]:.2f}")
    table.add_row("delay behind a word's end, median s", f"{statistics.median(late):.2f}")
    table.add_row("95 % within, s", f"{np.quantile(late, 0.95):.2f}")
    table.add_row("words shown before their utterance was over", str(shown))
    table.add_row("of these changed, %", f"{100 * others / max(shown, 1):.2f}")
    Console().print(table)
    return 0


async def _play_all(server: Server, sounds: Sequence[np.ndarray], streams: int) -> list[Captioned]:
    found = [Captioned() for _ in sounds]
    waiting = iter(range(len(sounds)))
    with Progress(transient=True) as progress:
        bar = progress.add_task("playing", total=len(sounds))

        async def one(first: float) -> None:
            await asyncio.sleep(first)
            for number in waiting:
                await _play(server, sounds[number], found[number])
                progress.advance(bar)

        await asyncio.gather(*(one(0.37 * n) for n in range(streams)))
    return found


async def _play(server: Server, samples: np.ndarray, to: Captioned) -> None:
    sound = (np.pad(samples, (0, 16_000)) * 32767).astype("<i2").tobytes()
    url = server.url.replace("http", "ws") + "/v1/stream?rate=16000"
    async with connect(url) as socket:
        begin = time.perf_counter()

        async def send() -> None:
            step = 3200  # a tenth of a second
            for number, at in enumerate(range(0, len(sound), step)):
                await asyncio.sleep(max(0.0, begin + (number + 1) / 10 - time.perf_counter()))
                await socket.send(sound[at : at + step])
            await socket.send("end")

        sending = asyncio.create_task(send())
        async for message in socket:
            event, now = json.loads(message), time.perf_counter() - begin
            if event["type"] == "words":
                to.words += [(word["text"], now) for word in event["words"]]
            elif event["type"] == "text":
                to.texts.append(event["text"])
        await sending


def _letters(word: str) -> str:
    return "".join(each for each in word.casefold() if each.isalnum())


def delays(found: Captioned, offline: Transcript) -> list[float]:
    """Of each shown word that the offline text has, too, behind its end there."""
    shown = [_letters(word) for word, _ in found.words]
    words = offline.words
    same = SequenceMatcher(None, shown, [_letters(word.text) for word in words], autojunk=False)
    return [
        found.words[block.a + n][1] - (words[block.b + n].end or 0.0)
        for block in same.get_matching_blocks()
        for n in range(block.size)
    ]


def changed(found: Captioned) -> int:
    """Shown words that the final text hasn't."""
    shown = [_letters(word) for word, _ in found.words]
    final = [_letters(word) for word in " ".join(found.texts).split()]
    same = SequenceMatcher(None, shown, final, autojunk=False).get_matching_blocks()
    return len(shown) - sum(block.size for block in same)
