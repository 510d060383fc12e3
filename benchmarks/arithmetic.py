"""What accelerators could do at best, by the bytes and products of compiled passes.

python -m benchmarks.arithmetic --picture docs/arithmetic.png

A pass reads its weights, and each text's keys and values, once: the arguments of its compiled
program; and it multiplies as its program says. The least time is the larger of the two by a chip's
own figures (parallel/chips.py), so this is no measurement: launches, softmaxes and everything that
isn't overlapped come on top.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import tyro
from flax import nnx
from rich.console import Console
from rich.progress import track
from rich.table import Table

from configs.whisfusion_large_v3 import CONFIG
from whisfusion_jax.audio.windows import WINDOW_SECONDS
from whisfusion_jax.bundle import abstract_denoiser, abstract_whisper
from whisfusion_jax.cli import run
from whisfusion_jax.config import WHISPER_SIZES, DenoiserConfig, WhisperConfig
from whisfusion_jax.decoding.canvas import canvas_for
from whisfusion_jax.errors import WhisfusionError
from whisfusion_jax.models.decoder import CrossCache
from whisfusion_jax.models.denoiser import Denoiser
from whisfusion_jax.models.encoder import AudioStates
from whisfusion_jax.parallel.chips import CHIPS, Chip
from whisfusion_jax.training.flops import encoder_flops
from whisfusion_jax.transcription.choice import REPAIRED

SHAPES = ("tiny.en", "base", "large-v3", "large-v3-turbo")
MACHINES = ("TPU v5 lite", "NVIDIA H100")
DECODERS = ("ar", "exact", "diffusion")
STEPS = 4
"""Of diffusion."""
TOKENS_A_PASS = 3.61
"""That exact writes on LibriSpeech (docs/results.md)."""
_PROMPT = 4


@dataclass(frozen=True)
class Pass:
    """What one takes, by its program."""

    flops: float
    bytes: float

    def seconds(self, chip: Chip) -> float:
        return max(self.flops / chip.flops, self.bytes / chip.bandwidth)

    def times(self, batch: int, other: "Pass", others: int, own: int) -> "Pass":
        """For another batch, by a pass of `own` texts and one of `others`: both grow evenly."""
        share = (batch - own) / (others - own)
        return Pass(
            self.flops + share * (other.flops - self.flops),
            self.bytes + share * (other.bytes - self.bytes),
        )


def main(
    shapes: tuple[str, ...] = SHAPES,
    batches: tuple[int, ...] = (1, 16, 64),
    tokens: int = 100,
    picture: Path | None = None,
) -> None:
    """Compile a pass of every decoder, and count.

    Args:
        shapes: Whispers, by name.
        batches: Windows of 30 s at once.
        tokens: Of each text.
        picture: Draw here (.png, .svg).
    """
    taken = {"ar": float(tokens), "exact": tokens / TOKENS_A_PASS, "diffusion": float(STEPS)}
    kinds = [(s, d, b) for s in shapes for b in batches for d in DECODERS]
    found = {
        kind: _compiled(WHISPER_SIZES[kind[0]], *kind[1:], tokens)
        for kind in track(kinds, description="compiling", transient=True)
    }
    console = Console(width=150)
    for name in MACHINES:
        console.print(_table(found, taken, CHIPS[name]))
    if picture is not None:
        _draw(found, taken, picture)


Found = Mapping[tuple[str, str, int], Pass]
"""By Whisper, decoder and batch."""


def _compiled(model: WhisperConfig, decoder: str, rows: int, tokens: int) -> Pass:
    program, arguments = _program(model, decoder, rows, tokens)
    lowered = jax.jit(program).lower(*_narrow(arguments))
    cost, memory = lowered.cost_analysis(), lowered.compile().memory_analysis()
    return Pass(float(cost["flops"]), float(memory.argument_size_in_bytes))


def _program(
    model: WhisperConfig, decoder: str, rows: int, tokens: int
) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """A pass, with what it reads: shapes alone."""
    whisper = abstract_whisper(model).decoder
    frames = model.frames(WINDOW_SECONDS)
    shape = jax.ShapeDtypeStruct((rows, frames, model.width), jnp.bfloat16)
    canvas = canvas_for(WINDOW_SECONDS)

    def heard(reader: Any) -> CrossCache:
        return nnx.eval_shape(
            lambda each, states: each.cross_cache(AudioStates(states, None)), reader, shape
        )

    def cache(reader: Any, length: int) -> Any:
        return nnx.eval_shape(lambda each: each.empty_cache(rows, length), reader)

    if decoder == "ar":

        def write(reader: Any, token: jax.Array, own: Any, cross: CrossCache) -> Any:
            hidden, own = reader(token, own, tokens // 2, cross)
            return reader.logits(hidden[:, 0]).argmax(-1), own

        token = jax.ShapeDtypeStruct((rows, 1), jnp.int32)
        return write, (whisper, token, cache(whisper, _PROMPT + tokens), heard(whisper))
    if decoder == "exact":
        length = _PROMPT + tokens + REPAIRED
        reader = abstract_denoiser(DenoiserConfig.of_decoder(model, rank=0))

        def verify(reader: Denoiser, text: jax.Array, own: Any, cross: CrossCache) -> Any:
            start = jnp.full((rows, 1), _PROMPT)
            hidden, own = reader.stretch(
                text, start, REPAIRED, _PROMPT, length, cross, own, masks=False
            )
            return reader.logits(hidden).argmax(-1), own

        text = jax.ShapeDtypeStruct((rows, 1, length), jnp.int32)
        return verify, (reader, text, cache(reader, length), heard(reader))
    reader = abstract_denoiser(_denoiser(model))

    def denoise(reader: Denoiser, prompt: jax.Array, text: jax.Array, cross: CrossCache) -> Any:
        return reader.logits(reader(prompt, text, cross)).argmax(-1)

    prompt = jax.ShapeDtypeStruct((rows, _PROMPT), jnp.int32)
    text = jax.ShapeDtypeStruct((rows, 1, canvas), jnp.int32)
    return denoise, (reader, prompt, text, heard(reader))


def _denoiser(model: WhisperConfig) -> DenoiserConfig:
    """The paper's on large encoders; else Whisper's own decoder, seeing all."""
    paper = CONFIG.denoiser
    assert paper is not None
    if paper.audio_width == model.width:
        return replace(paper, vocabulary=model.vocabulary)
    return DenoiserConfig.of_decoder(model, rank=0, both_ways=True)


def _narrow(tree: Any) -> Any:
    """Shapes with their floats in bfloat16."""

    def narrow(leaf: Any) -> Any:
        floats = jnp.issubdtype(leaf.dtype, jnp.floating)
        return jax.ShapeDtypeStruct(leaf.shape, jnp.bfloat16 if floats else leaf.dtype)

    return jax.tree.map(narrow, tree)


def _hearing(shape: str, decoder: str, rows: int, chip: Chip) -> float:
    """Seconds of the encoder, and of the keys and values that a decoder reads.

    Weights are read once, and are no matter.
    """
    model = WHISPER_SIZES[shape]
    layers = _denoiser(model).layers if decoder == "diffusion" else model.decoder_layers
    frames = model.frames(WINDOW_SECONDS)
    flops = encoder_flops(model, frames) + 4 * layers * model.width**2 * frames
    return rows * flops / chip.flops


def _table(found: Found, taken: Mapping[str, float], chip: Chip) -> Table:
    table = Table(title=f"{chip.name} at best, windows of {WINDOW_SECONDS} s, by arithmetic")
    for column in (
        "shape", "batch", "hearing ms", "decoder", "passes", "GFLOP a pass", "GB a pass",
        "ms a pass", "RTFx", "times ar, decoder alone", "end to end", "ar overtakes at batch",
    ):  # fmt: skip
        table.add_column(column, justify="left" if column in ("shape", "decoder") else "right")
    for (shape, decoder, rows), each in found.items():
        hearing, ars = (_hearing(shape, name, rows, chip) for name in (decoder, "ar"))
        own = taken[decoder] * each.seconds(chip)
        ar = taken["ar"] * found[shape, "ar", rows].seconds(chip)
        table.add_row(
            shape, str(rows), f"{1e3 * hearing:.2f}", decoder, f"{taken[decoder]:.1f}",
            f"{each.flops / 1e9:.3g}", f"{each.bytes / 1e9:.3g}",
            f"{1e3 * each.seconds(chip):.3g}",
            f"{WINDOW_SECONDS * rows / (hearing + own):,.0f}", f"{ar / own:.2f}",
            f"{(ars + ar) / (hearing + own):.2f}", _crossing(found, taken, shape, decoder, chip),
        )  # fmt: skip
    return table


def _crossing(
    found: Found, taken: Mapping[str, float], shape: str, decoder: str, chip: Chip
) -> str:
    """The least power of two from which on ar takes no longer."""
    batches = [batch for s, d, batch in found if (s, d) == (shape, decoder)]
    least, most = min(batches), max(batches)
    if decoder == "ar" or least == most:
        return ""

    def seconds(name: str, batch: int) -> float:
        first, last = found[shape, name, least], found[shape, name, most]
        return taken[name] * first.times(batch, last, most, least).seconds(chip)

    powers = (2**power for power in range(17))
    crossed = (batch for batch in powers if seconds("ar", batch) <= seconds(decoder, batch))
    return next(map(str, crossed), "never")


def _draw(found: Found, taken: Mapping[str, float], path: Path) -> None:
    """Of each shape and chip: how many times real time, by batch."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise WhisfusionError("a picture needs whisfusion_jax[plots]") from None
    shapes = list(dict.fromkeys(shape for shape, _, _ in found))
    figure = Figure(figsize=(4 * len(shapes), 3.2 * len(MACHINES)), layout="constrained")
    panels = figure.subplots(len(MACHINES), len(shapes), squeeze=False, sharex=True)
    for row, machine in zip(panels, MACHINES, strict=True):
        chip = CHIPS[machine]
        for axes, shape in zip(row, shapes, strict=True):
            for decoder in DECODERS:
                points = []
                for (s, d, batch), each in found.items():
                    if (s, d) == (shape, decoder):
                        own = taken[decoder] * each.seconds(chip)
                        whole = _hearing(shape, decoder, batch, chip) + own
                        points.append((batch, WINDOW_SECONDS * batch / whole))
                axes.plot(*zip(*points, strict=True), "o-", label=decoder)
            axes.set(title=f"{shape}, {chip.name}", xscale="log", yscale="log", xlabel="batch")
            axes.set_ylabel("RTFx at best, end to end")
            axes.grid(visible=True, which="both", alpha=0.3)
            axes.legend()
    aside = path.with_name(f".{path.stem}.partial{path.suffix}")
    figure.savefig(aside, dpi=90)
    aside.rename(path)


if __name__ == "__main__":
    run(lambda: tyro.cli(main, description=__doc__))
