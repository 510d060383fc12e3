"""What accuracy costs in steps: error rates by rule and decoder, as a table and a picture."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from whisfusion_jax.decoding.unmasking import PositionBiased, Repair, Rule, Threshold, TopN
from whisfusion_jax.errors import WhisfusionError
from whisfusion_jax.evaluation.report import Report
from whisfusion_jax.transcription.decoders import DecoderName

ONE_A_STEP = PositionBiased(entropy=0.0, revise=0.0)
"""Writes a single token at each step."""

Way = Rule | DecoderName
"""Diffusion by a rule, or a decoder as it is."""

CURVE: tuple[tuple[str, Way], ...] = (
    *((f"top_n, {steps} steps", TopN(steps, bias=0.3)) for steps in (1, 2, 4, 8)),
    *((f"at most {steps} steps of pbeb", PositionBiased(steps=steps)) for steps in (2, 4, 8)),
    *((f"threshold {level}", Threshold(level)) for level in (0.3, 0.5, 0.7, 0.9)),
    *((f"pbeb {entropy}", PositionBiased(entropy)) for entropy in (4.0, 2.0, 1.0, 0.3)),
    ("one token a step", ONE_A_STEP),
    *((f"repair, {steps} steps", Repair(steps)) for steps in (1, 2, 4, 8)),
    ("exact", "exact"),
    ("ar", "ar"),
)
"""Names and ways to write, fast to slow within a kind."""


@dataclass(frozen=True)
class Point:
    """A way's result on a test set."""

    name: str
    steps: float
    """Mean over the recordings."""
    wer: float


def measure_curve(evaluate: Callable[[Way], Report], drafts: bool) -> list[Point]:
    """Evaluate every way of `CURVE`.

    Args:
        evaluate: scores a test set.
        drafts: there is a head, whose draft may be repaired.
    """
    points = []
    for name, way in CURVE:
        if drafts or not isinstance(way, Repair):
            summary = evaluate(way).summary
            points.append(Point(name, summary["steps"], summary["wer"]))
    return points


def print_curve(points: Sequence[Point], console: Console) -> None:
    """Show a line a way."""
    table = Table(title="steps and errors")
    for column in ("by", "mean steps", "WER %"):
        table.add_column(column, justify="left" if column == "by" else "right")
    for point in points:
        table.add_row(point.name, f"{point.steps:.2f}", f"{100 * point.wer:.2f}")
    console.print(table)


def draw_curve(points: Sequence[Point], path: Path) -> None:
    """Draw WER over steps, a line a kind of way.

    Raises:
        WhisfusionError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import ScalarFormatter
    except ImportError:
        raise WhisfusionError("a picture needs whisfusion_jax[plots]") from None
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    kinds = {
        "top_n": "top_n", "threshold": "threshold", "at most": "pbeb, fixed steps", "pbeb": "pbeb",
        "one": "one token a step", "repair": "repair of the draft", "exact": "exact",
        "ar": "Whisper's decoder",
    }  # fmt: skip
    for kind, label in kinds.items():
        chosen = [point for point in points if point.name.startswith(kind)]
        if chosen:
            steps, errors = [p.steps for p in chosen], [100 * p.wer for p in chosen]
            axes.plot(steps, errors, "o-", label=label)
    axes.set(xlabel="mean steps", ylabel="word error rate, %", yscale="log")
    for ticks in ("major", "minor"):
        getattr(axes.yaxis, f"set_{ticks}_formatter")(ScalarFormatter())
    axes.legend()
    axes.grid(visible=True, which="both", alpha=0.3)
    aside = path.with_name(f".{path.stem}.partial{path.suffix}")
    figure.savefig(aside, dpi=120)
    aside.rename(path)
