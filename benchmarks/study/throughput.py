"""How fast decoders write alone, by batch; and by arithmetic, where there is no such machine.

A pass reads every weight once, whatever the batch, and each text's keys and values; it multiplies
for every position that it reads. So several positions a pass cost nothing as long as weights and
keys are what a machine waits for, and a batch large enough makes that end.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from benchmarks.common import alternate, load_clips
from benchmarks.exact import BUCKET, Bench
from whisfusion_jax.audio.arrays import SAMPLE_RATE
from whisfusion_jax.config import FRAMES_PER_SECOND, WHISPER_SIZES, WhisperConfig
from whisfusion_jax.decoding.canvas import canvas_for
from whisfusion_jax.decoding.unmasking import Repair
from whisfusion_jax.errors import WhisfusionError
from whisfusion_jax.parallel.chips import CHIPS, Chip
from whisfusion_jax.transcription.choice import Choice, Wishes
from whisfusion_jax.transcription.decoders import Autoregressive, Diffusion

AR = "ar"
WISHES = {
    AR: Wishes("ar"),
    "exact, 5 positions": Wishes("exact", stretch=5),
    "exact, 24 positions": Wishes("exact", stretch=24),
    "diffusion": Wishes("diffusion"),
    "repair 4": Wishes("diffusion", rule=Repair(4)),
}
MACHINES = ("TPU v5 lite", "NVIDIA H100")
HERE = "this CPU"
LARGEST = 2**14
"""Batches beyond are no longer asked for the crossing."""


@dataclass(frozen=True)
class PassCost:
    """What a decoder's pass over a batch takes."""

    flops: float
    bytes: float

    @classmethod
    def of(
        cls, model: WhisperConfig, rows: int, positions: int, frames: int, size: int
    ) -> "PassCost":
        """Count matrix products, weights, and keys and values.

        Args:
            positions: that are read for each row.
            frames: of audio.
            size: bytes of a number.
        """
        width, layers = model.width, model.decoder_layers
        # Attention to itself 4, to the audio 2 (keys and values are there), feed-forward 8.
        weights = 14 * width**2 * layers + model.vocabulary * width
        attended = 2 * (frames + canvas_for(BUCKET)) * width * layers
        return cls(
            flops=2 * rows * positions * (weights + attended),
            bytes=size * (weights + rows * attended),
        )

    def seconds(self, chip: Chip) -> float:
        """The least that it can take."""
        return max(self.flops / chip.flops, self.bytes / chip.bandwidth)


@dataclass(frozen=True)
class Measured:
    """A decoder on one batch size."""

    positions: int
    """That a pass reads."""
    passes: float
    """Of a batch: those of its longest text."""
    seconds: Sequence[float]
    """Of all texts, each round."""


def throughput(
    manifest: tyro.conf.Positional[Path],
    batches: tuple[int, ...] = (1, 4, 16, 64),
    texts: int = 64,
    shapes: tuple[str, ...] = ("tiny.en", "large-v3", "large-v3-turbo"),
) -> None:
    """Time decoders alone on recordings of up to 10 s, and say what other machines could do.

    Args:
        manifest: Recordings; the first of them that are short enough.
        batches: Texts at once.
        texts: How many there are.
        shapes: Whispers to count for; their passes are those that tiny.en's decoders took.
    """
    bench = Bench.open("tiny.en", None)
    clips = [samples for _, samples in load_clips(manifest) if len(samples) <= BUCKET * SAMPLE_RATE]
    if len(clips) < texts:
        raise WhisfusionError(f"{manifest}: has {len(clips)} recordings of up to {BUCKET} s")
    clips = clips[:texts]
    chosen = {name: bench.choose(wishes) for name, wishes in WISHES.items()}
    found = {batch: _measure(bench, chosen, clips, batch) for batch in batches}
    console = Console(width=140)
    console.print(_timed(found, texts))
    here = _this_machine()
    chips = [here, *(CHIPS[name] for name in MACHINES)]
    for name in shapes:
        console.print(_counted(name, found, chips))


def _measure(
    bench: Bench, chosen: dict[str, Choice], clips: Sequence[np.ndarray], batch: int
) -> dict[str, Measured]:
    groups = [
        bench.encode(clips[begin : begin + batch], BUCKET) for begin in range(0, len(clips), batch)
    ]

    def run(choice: Choice) -> list[Any]:
        return [jax.device_get(bench.write(choice, audio)) for audio in groups]

    runs: dict[str, Callable[[], Any]] = {n: partial(run, each) for n, each in chosen.items()}
    passes = {
        name: float(np.mean([texts.steps.max() for texts in write()]))
        for name, write in runs.items()
    }
    times = alternate(runs)
    return {name: Measured(_positions(chosen[name]), passes[name], times[name]) for name in chosen}


def _positions(choice: Choice) -> int:
    decode = choice.decode
    if isinstance(decode, Autoregressive):
        return 1
    if isinstance(decode, Diffusion) and decode.repair is not None:
        return canvas_for(BUCKET)
    return decode.stretch


def _timed(found: dict[int, dict[str, Measured]], texts: int) -> Table:
    table = Table(title=f"decoder alone, {texts} texts")
    for name in (
        "batch",
        "decoder",
        "passes of a batch",
        "ms a text",
        f"to {AR}",
        "lowest to highest",
    ):
        table.add_column(name, justify="left" if name == "decoder" else "right")
    for batch, decoders in found.items():
        for name, each in decoders.items():
            ratios = [a / b for a, b in zip(decoders[AR].seconds, each.seconds, strict=True)]
            table.add_row(
                str(batch), name, f"{each.passes:.1f}",
                f"{1e3 * np.median(each.seconds) / texts:.1f}",
                f"{np.median(ratios):.2f}", f"{min(ratios):.2f} to {max(ratios):.2f}",
            )  # fmt: skip
    return table


def _counted(shape: str, found: dict[int, dict[str, Measured]], chips: Sequence[Chip]) -> Table:
    """What a pass takes, the least time a text, and from which batch on ar would be faster."""
    model, frames = WHISPER_SIZES[shape], BUCKET * FRAMES_PER_SECOND
    table = Table(title=f"{shape}, by arithmetic: us a text at least (times as fast as {AR})")
    for name in ("batch", "decoder", "GFLOP a pass", "MB a pass", *(chip.name for chip in chips)):
        table.add_column(name, justify="left" if name == "decoder" else "right")
    for batch, decoders in found.items():
        for name, each in decoders.items():
            cost = PassCost.of(model, batch, each.positions, frames, size=2)
            cells = []
            for chip in chips:
                own, other = (
                    _seconds_a_text(model, batch, e, frames, chip) for e in (each, decoders[AR])
                )
                cells.append(f"{1e6 * own:.3g} ({other / own:.2f})")
            flops, size = f"{cost.flops / 1e9:.3g}", f"{cost.bytes / 1e6:.4g}"
            table.add_row(str(batch), name, flops, size, *cells)
    largest = found[max(found)]
    for name, each in largest.items():
        if name != AR:
            cells = [_crossing(model, each, largest[AR], frames, chip) for chip in chips]
            table.add_row("", f"{name}: {AR} is faster from", "", "", *cells)
    return table


def _seconds_a_text(
    model: WhisperConfig, batch: int, each: Measured, frames: int, chip: Chip
) -> float:
    size = 4 if chip.name == HERE else 2
    cost = PassCost.of(model, batch, each.positions, frames, size)
    return each.passes * cost.seconds(chip) / batch


def _crossing(model: WhisperConfig, each: Measured, ar: Measured, frames: int, chip: Chip) -> str:
    """The smallest batch at which ar takes no longer, with the passes of the largest timed one."""
    for batch in range(1, LARGEST):
        own, other = (_seconds_a_text(model, batch, e, frames, chip) for e in (each, ar))
        if other <= own:
            return f"batch {batch}"
    return "never"


def _this_machine() -> Chip:
    """What products and copies reach here, in float32."""
    size = 2048
    square = jnp.ones((size, size))
    long = jnp.ones(2**26)
    multiply, copy = jax.jit(jnp.matmul), jax.jit(lambda x: x + 1)
    flops = 2 * size**3 / _fastest(lambda: multiply(square, square))
    return Chip(HERE, flops, 0.0, 2 * long.nbytes / _fastest(lambda: copy(long)), 0.0)


def _fastest(run: Callable[[], jax.Array], times: int = 5) -> float:
    run().block_until_ready()
    found = []
    for _ in range(times):
        begin = time.perf_counter()
        run().block_until_ready()
        found.append(time.perf_counter() - begin)
    return min(found)
