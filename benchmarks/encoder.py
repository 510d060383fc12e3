"""Encoder time with the padding memory against the padded window, and a picture over length.

python -m benchmarks.encoder --bundle tiny.en --picture docs/padding_memory.png
"""

import statistics
from pathlib import Path

import jax
import numpy as np
import tyro
from rich.console import Console

from benchmarks.common import alternate, open_bundle, timing_table
from whisfusion_jax.audio.windows import BUCKETS
from whisfusion_jax.errors import BundleError


def main(bundle: str = "tiny.en", picture: Path | None = None) -> None:
    """Time the encoder alone on noise; its time doesn't depend on what it hears.

    Args:
        bundle: A bundle's directory, or published weights by name.
        picture: Draw time against the bucket's length here.
    """
    opened = open_bundle(bundle)
    encoder, memory = opened.load_whisper().encoder, opened.load_memory()
    if memory is None:
        raise BundleError(f"{bundle} has no padding memory")
    encode = jax.jit(lambda encoder, mel, memory: encoder(mel, memory).states)

    def contender(seconds: int, batch: int) -> object:
        shape = batch, 100 * seconds, opened.config.model.mel_bins
        mel = jax.numpy.asarray(np.random.default_rng(0).normal(size=shape), np.float32)
        used = memory if seconds < 30 else None
        return lambda: jax.block_until_ready(encode(encoder, mel, used))

    curves: dict[int, list[float]] = {}
    for batch in (1, 8):
        names = {f"{s} s with memory" if s < 30 else "30 s, padded": s for s in BUCKETS}
        times = alternate({name: contender(s, batch) for name, s in names.items()})
        title = f"{bundle}, encoder, batch {batch}"
        Console().print(timing_table(title, times, "30 s, padded"))
        curves[batch] = [statistics.median(seconds) / batch for seconds in times.values()]
    if picture is not None:
        draw(bundle, curves, picture)


def draw(bundle: str, curves: dict[int, list[float]], path: Path) -> None:
    """Milliseconds a clip against seconds of audio: steps with the memory, flat without."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    ends = [0, *(bucket - 0.5 for bucket in BUCKETS[:-1]), 30]
    for colour, (batch, seconds) in zip(("tab:blue", "tab:orange"), curves.items(), strict=True):
        milliseconds = [1000 * s for s in seconds]
        axes.stairs(milliseconds, ends, color=colour, label=f"with memory, batch {batch}")
        axes.axhline(milliseconds[-1], color=colour, ls=":", label=f"padded, batch {batch}")
    axes.set(
        xlabel="seconds of audio", ylabel="encoder, ms a clip", ylim=0, xlim=(0, 30),
        title=f"{bundle}: what the encoder costs",
    )  # fmt: skip
    axes.legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    tyro.cli(main)
