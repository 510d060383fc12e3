"""Prices of repair's edits, one changed at a time: wrong tokens after few passes, passes in all.

python -m benchmarks.repair_prices --manifest SET/manifest.jsonl --trials put_in=-1.5 put_in=-3
"""

from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import tyro
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.common import SAMPLES, load_clips
from benchmarks.exact import BUCKET, Bench, heard_by
from whisfusion_jax.cli import keep_compiled_programs
from whisfusion_jax.decoding.canvas import canvas_for
from whisfusion_jax.decoding.drafts import Draft
from whisfusion_jax.decoding.edits import Prices
from whisfusion_jax.decoding.repairing import Repairs, repair
from whisfusion_jax.transcription.choice import Wishes
from whisfusion_jax.transcription.decoders import Denoisers
from whisfusion_jax.transcription.hearing import Heard
from whisfusion_jax.transcription.winner import edit_distance

_POSITIONS = 24
"""Of a pass that verifies."""
_ROWS = 32


def compare(
    manifest: Path = SAMPLES,
    trials: tuple[str, ...] = (),
    few: tuple[int, ...] = (4, 8),
    bundle: str = "tiny.en",
) -> None:
    """Repair each recording's draft, by the prices as they are and by others.

    Args:
        manifest: Recordings; those of more than 10 s are left out.
        trials: Each a price and its value, such as put_in=-1.5.
        few: Numbers of passes.
        bundle: Whisper, with a head that drafts.
    """
    keep_compiled_programs()
    bench = Bench.open(bundle, None)
    chosen = bench.choose(Wishes("exact"))
    _, denoisers = chosen.models
    vocabulary = chosen.decode.vocabulary
    clips = [samples for _, samples in load_clips(manifest, longest=BUCKET)]
    groups = [clips[begin : begin + _ROWS] for begin in range(0, len(clips), _ROWS)]
    heard = [
        heard_by(
            chosen.reader,
            chosen.head,
            bench.encode(group + group[-1:] * (_ROWS - len(group)), BUCKET),
        )
        for group in groups
    ]
    prompt, length = jnp.array([bench.prompt] * _ROWS), canvas_for(BUCKET)

    @partial(jax.jit, static_argnames="how")
    def repaired(model: Denoisers, each: Heard, how: Repairs) -> tuple[jax.Array, jax.Array]:
        assert each.pieces is not None
        assert model.merges is not None
        draft = Draft.of(*model.merges(*each.pieces), how.length, vocabulary.end)
        wanted = jnp.ones(_ROWS, bool)
        found, _ = repair(model.denoiser, each.cross, prompt, draft, how, wanted)
        return found.tokens[:, 0], found.steps[:, 0]

    def texts(size: int, steps: int, prices: Prices) -> tuple[list[list[int]], int]:
        how = Repairs(vocabulary, length, size, steps, prices)
        found: list[list[int]] = []
        passes = 0
        for group, each in zip(groups, heard, strict=True):
            tokens, count = jax.device_get(repaired(denoisers, each, how))
            found += [_text(row, vocabulary.end) for row in tokens[: len(group)].tolist()]
            passes += int(count[: len(group)].sum())
        return found, passes

    own, _ = texts(_POSITIONS, length, Prices())
    spoken = sum(map(len, own))
    table = Table(title=f"{len(clips)} recordings, {spoken} tokens")
    for column in ("", *(f"% wrong after {steps}" for steps in few), "passes a text, exactly"):
        table.add_column(column, justify="right" if column else "left")
    for trial in track(("", *trials), description="repairing", transient=True):
        name, _, value = trial.partition("=")
        prices = replace(Prices(), **{name: float(value)}) if trial else Prices()
        wrong = [
            sum(map(edit_distance, texts(length, steps, prices)[0], own)) / spoken for steps in few
        ]
        _, passes = texts(_POSITIONS, length, prices)
        table.add_row(
            trial or "as they are", *(f"{100 * each:.2f}" for each in wrong),
            f"{passes / len(clips):.2f}",
        )  # fmt: skip
    Console().print(table)


def _text(tokens: list[int], end: int) -> list[int]:
    return tokens[: tokens.index(end)] if end in tokens else tokens


if __name__ == "__main__":
    tyro.cli(compare)
