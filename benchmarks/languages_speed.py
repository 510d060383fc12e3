"""How fast many languages are written: decoders alone, and everything beside faster-whisper.

python -m benchmarks.languages_speed alone --data DATA
python -m benchmarks.languages_speed whole --data DATA
"""

import dataclasses
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from benchmarks.common import alternate, load_faster_whisper, open_bundle
from benchmarks.exact import BUCKET, Bench
from benchmarks.languages import SETS, rate_of
from whisfusion_jax.audio.arrays import SAMPLE_RATE
from whisfusion_jax.bundle import Bundle
from whisfusion_jax.cli import keep_compiled_programs
from whisfusion_jax.data.sources import Example, Prepared
from whisfusion_jax.hub import find_drafts
from whisfusion_jax.transcription.choice import Choice, Wishes
from whisfusion_jax.transcription.transcriber import Transcriber

GREEDY = "greedy"


def alone(
    data: Path = Path("data"),
    sets: tuple[str, ...] = SETS,
    bundle: str = "base",
    drafts: str | None = None,
    each: int = 8,
    fill: bool = False,
    stretches: tuple[int, ...] = (5, 10),
) -> None:
    """Time decoders on the encoder's states, one recording at a time.

    Args:
        data: Where prepared sets lie.
        sets: Those to read.
        bundle: A multilingual Whisper.
        drafts: Whose head drafts; without it what ships.
        each: Recordings of each set, of up to 10 s.
        fill: Join a set's recordings to pieces of up to 10 s, of which there are so many.
        stretches: Positions that a pass of exact reads, each in its turn.
    """
    keep_compiled_programs()
    bench = Bench.open(bundle, drafts)
    chosen = {GREEDY: bench.choose(Wishes("ar"))} | {
        f"exact, {stretch}": bench.choose(Wishes("exact", stretch=stretch)) for stretch in stretches
    }
    table = Table("set", "tokens", title=f"{bundle}, decoder alone, one by one")
    for name in list(chosen)[1:]:
        table.add_column(f"{name}: passes, times as fast (lowest to highest)", justify="right")
    ratios: dict[str, list[float]] = {name: [] for name in chosen}
    for name in sets:
        examples = _examples(data / name / "1.0.0", None if fill else each)
        speech = _joined(examples)[:each] if fill else [example.samples for example in examples]
        spoken = dataclasses.replace(
            bench, prompt=bench.bundle.tokenizer.prompt(examples[0].language)
        )
        states = [spoken.encode([samples], BUCKET) for samples in speech]

        def write(choice: Choice, spoken: Bench = spoken, states: Any = states) -> list[Any]:
            return [jax.device_get(spoken.write(choice, audio)) for audio in states]

        passes = {
            way: float(np.mean([texts.steps for texts in write(choice)]))
            for way, choice in chosen.items()
        }
        runs: dict[str, Callable[[], Any]] = {
            way: partial(write, choice) for way, choice in chosen.items()
        }
        times = alternate(runs)
        cells = []
        for way in list(chosen)[1:]:
            faster = [own / other for own, other in zip(times[GREEDY], times[way], strict=True)]
            ratios[way].append(statistics.median(faster))
            spread = f"{min(faster):.2f} to {max(faster):.2f}"
            cells.append(f"{passes[way]:.2f}, {ratios[way][-1]:.2f} ({spread})")
        table.add_row(name, f"{passes[GREEDY]:.1f}", *cells)
    means = (f"{statistics.mean(ratios[way]):.2f}" for way in list(chosen)[1:])
    table.add_row("mean", "", *means)
    Console(width=140).print(table)


def whole(
    data: Path = Path("data"),
    sets: tuple[str, ...] = SETS,
    bundle: str = "base",
    drafts: str | None = None,
    each: int = 10,
    rounds: int = 3,
) -> None:
    """Time everything from samples to text, one recording at a time, beside faster-whisper int8.

    Args:
        data: Where prepared sets lie.
        sets: Those to read.
        bundle: A multilingual Whisper.
        drafts: Whose head drafts; without it what ships.
        each: Recordings of each set, of up to 10 s.
        rounds: That are counted.
    """
    keep_compiled_programs()
    opened, named = open_bundle(bundle), drafts or find_drafts(bundle)
    head = Bundle.open(named) if named else None
    ours = {
        name: Transcriber(opened, decoder=name, drafts=drafting, batch_size=1)  # type: ignore[arg-type]
        for name, drafting in (("ar", None), ("exact", head), ("diffusion", head))
    }
    theirs = load_faster_whisper(opened, "int8")
    table = Table("set", title=f"{bundle}, from samples to text, one by one: error rate %, RTFx")
    for name in (*ours, "faster-whisper int8"):
        table.add_column(name, justify="right")
    for name in sets:
        examples = _examples(data / name / "1.0.0", each)
        language = examples[0].language

        def by_us(transcriber: Transcriber, examples: Any = examples) -> list[str]:
            return [transcriber.transcribe(e.samples, e.language).text for e in examples]

        def by_them(examples: Any = examples) -> list[str]:
            # By its defaults, but for one beam, as ours has.
            heard = [theirs.transcribe(e.samples, e.language, beam_size=1)[0] for e in examples]
            return [" ".join(part.text.strip() for part in parts) for parts in heard]

        runs: dict[str, Callable[[], list[str]]] = {
            way: partial(by_us, transcriber) for way, transcriber in ours.items()
        }
        runs["faster-whisper int8"] = by_them
        texts = {way: run() for way, run in runs.items()}
        # Where a set has no texts, Whisper's own are held to be right.
        right = [e.text or own for e, own in zip(examples, texts["ar"], strict=True)]
        times = alternate(runs, rounds)
        seconds = sum(len(e.samples) for e in examples) / SAMPLE_RATE
        cells = (
            f"{100 * rate_of(right, texts[way], language):.1f}, "
            f"{seconds / statistics.median(times[way]):.1f}"
            for way in runs
        )
        table.add_row(name, *cells)
    Console(width=120).print(table)


def _joined(examples: Sequence[Example]) -> list[np.ndarray]:
    """As many recordings as go into BUCKET seconds, one behind the other, and the next."""
    pieces, own = [], np.zeros(0, np.float32)
    for example in examples:
        if len(own) + len(example.samples) > BUCKET * SAMPLE_RATE:
            pieces.append(own)
            own = own[:0]
        own = np.concatenate([own, example.samples])
    return [*pieces, own]


def _examples(path: Path, most: int | None) -> Sequence[Example]:
    prepared = Prepared(path, "test")
    every = (prepared[number] for number in range(len(prepared)))
    return [each for each in every if len(each.samples) <= BUCKET * SAMPLE_RATE][:most]


if __name__ == "__main__":
    tyro.extras.subcommand_cli_from_dict({"alone": alone, "whole": whole})
