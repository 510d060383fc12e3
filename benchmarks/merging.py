"""Tokens out of pieces on the device: how often not the tokenizer's, and how long a text takes.

python -m benchmarks.merging en.txt
"""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from benchmarks.common import alternate, open_bundle
from whisfusion_jax.config import CtcConfig
from whisfusion_jax.text.merging import Merges
from whisfusion_jax.text.shortlist import Shortlist

ROOM = 150
"""Pieces that a row holds: the moments of 12 s."""


def main(sentences: tyro.conf.Positional[Path], bundle: str = "tiny.en", count: int = 2000) -> None:
    """Take sentences apart and merge them again.

    Args:
        sentences: A text file, one a line.
        bundle: Whisper, by name or directory.
        count: Of sentences, from the first on; longer ones than a row are left out.
    """
    tokenizer = open_bundle(bundle).tokenizer
    pieces = Shortlist.of_texts([], tokenizer, CtcConfig.pieces)
    lines = sentences.read_text(encoding="utf-8").splitlines()[:count]
    tokens = [tokenizer.encode(" " + line.strip()) for line in lines]
    apart = [(row, own) for row in tokens if len(own := pieces.respell(row)) <= ROOM]
    rows = jnp.array([[*own, *[-1] * ROOM][:ROOM] for _, own in apart], jnp.int32)
    sure = jnp.ones(rows.shape)
    merge = jax.jit(Merges.of(tokenizer).__call__)
    found = np.asarray(merge(rows, sure)[0]).tolist()
    others = sum(
        [token for token in row if token >= 0] != expected
        for row, (expected, _) in zip(found, apart, strict=True)
    )
    one = partial(merge, rows[:1], sure[:1])
    times = alternate({"one": lambda: [jax.block_until_ready(one()) for _ in range(20)]})["one"]
    print(f"{others} of {len(apart)} texts are not the tokenizer's")
    print(f"{1e3 * np.median(times) / 20:.2f} ms a text")


if __name__ == "__main__":
    tyro.cli(main)
