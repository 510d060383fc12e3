"""The study's picture: errors against passes."""

from collections.abc import Mapping
from pathlib import Path

from benchmarks.study.tables import Reports
from whisfusion_jax.errors import WhisfusionError


def draw_pareto(found: Mapping[str, Reports], against: str, path: Path) -> None:
    """A panel a set: a point a contender, and a line where nothing is better at both.

    Args:
        against: whose error rate is drawn across.

    Raises:
        WhisfusionError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import NullFormatter
    except ImportError:
        raise WhisfusionError("a picture needs whisfusion_jax[plots]") from None
    # The few that also hear noise make no curve.
    most = max(map(len, found.values()))
    found = {title: reports for title, reports in found.items() if 2 * len(reports) > most}
    figure = Figure(figsize=(8 * len(found), 6), layout="constrained")
    for axes, (title, reports) in zip(
        figure.subplots(1, len(found), squeeze=False)[0], found.items(), strict=True
    ):
        points = {
            name: (report["summary"]["steps"], 100 * report["summary"]["wer"])
            for name, report in reports.items()
        }
        best: list[tuple[float, float]] = []
        for steps, errors in sorted(points.values()):
            if not best or errors < best[-1][1]:
                best.append((steps, errors))
        axes.plot(*zip(*best, strict=True), "-", color="0.7", drawstyle="steps-post")
        for name, point in points.items():
            axes.plot(*point, "o", color="C0" if name != against else "C3")
            axes.annotate(name, point, fontsize=6, xytext=(3, 3), textcoords="offset points")
        axes.set(title=title, xlabel="mean passes", ylabel="word error rate, %", yscale="log")
        ticks = [4, 5, 6, 8, 10, 15, 20, 30, 40, 60]
        axes.set_yticks(ticks, [f"{tick}" for tick in ticks])
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.grid(visible=True, which="both", alpha=0.3)
    aside = path.with_name(f".{path.stem}.partial{path.suffix}")
    figure.savefig(aside, dpi=120)
    aside.rename(path)
