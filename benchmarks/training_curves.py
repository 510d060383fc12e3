"""Logs of training runs as curves of loss against steps, in one picture.

python -m benchmarks.training_curves warm=docs/tiny_en_training.jsonl \
    'from scratch'=docs/tiny_en_from_scratch_training.jsonl --picture docs/from_scratch.png
"""

import json
from pathlib import Path
from typing import Annotated

import tyro


def main(
    logs: Annotated[tuple[str, ...], tyro.conf.Positional],
    /,
    picture: Path,
    until: int | None = None,
) -> None:
    """Draw.

    Args:
        logs: NAME=log.jsonl each.
        picture: To write (.png, .svg).
        until: The last step that is drawn; without it the shortest run's.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    curves = {}
    for log in logs:
        name, _, path = log.partition("=")
        rows = map(json.loads, Path(path).read_text().splitlines())
        curves[name] = [
            (row["step"], row["loss"], row["accuracy"]) for row in rows if "loss" in row
        ]
    last = until or min(curve[-1][0] for curve in curves.values())
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.2))
    for name, curve in curves.items():
        steps, losses, right = zip(*[row for row in curve if row[0] <= last], strict=True)
        panels[0].plot(steps, losses, label=name)
        panels[1].plot(steps, [100 * share for share in right], label=name)
    for panel, measure in zip(panels, ("loss, nats", "likeliest token right, %"), strict=True):
        panel.set_xlabel("steps")
        panel.set_ylabel(measure)
        panel.set_ylim(0)
        panel.grid(alpha=0.3)
    panels[0].legend()
    figure.tight_layout()
    figure.savefig(picture, dpi=120)


if __name__ == "__main__":
    tyro.cli(main)
