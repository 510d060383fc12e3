"""Our attention against `jax.nn.dot_product_attention`, on tiny's shapes.

python -m benchmarks.attention
"""

import jax
import numpy as np
import tyro
from rich.console import Console

from benchmarks.common import alternate, timing_table
from whisfusion_jax.models.layers import attend

HEADS, FEATURES, REPEATS = 6, 64, 20


def main() -> None:
    """Time both for a decoder's step and for an encoder's layer, on 30 s and on 6 s."""
    random = np.random.default_rng(0)
    library = jax.jit(jax.nn.dot_product_attention)
    ours = jax.jit(attend)
    for queries, keys in ((1, 1500), (1, 420), (1500, 1500), (300, 420)):
        arrays = [
            random.normal(size=(1, count, HEADS, FEATURES)).astype(np.float32)
            for count in (queries, keys, keys)
        ]
        theirs = [jax.numpy.asarray(array) for array in arrays]
        heads_first = [jax.numpy.asarray(array.swapaxes(1, 2)) for array in arrays]

        def repeat(function: object, operands: list[jax.Array]) -> None:
            for _ in range(REPEATS):
                jax.block_until_ready(function(*operands))  # type: ignore[operator]

        times = alternate(
            {
                "dot_product_attention": lambda a=theirs: repeat(library, a),
                "heads before positions": lambda a=heads_first: repeat(ours, a),
            }
        )
        title = f"{queries} queries over {keys} keys, {REPEATS} times"
        Console().print(timing_table(title, times, "dot_product_attention"))


if __name__ == "__main__":
    tyro.cli(main)
