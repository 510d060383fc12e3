"""cuDNN's attention against plain products, as models/layers.py chooses between them on a GPU.

python -m benchmarks.cudnn

The encoder's of large-v3 on windows of 30 s, and cross-attention of canvases with the bias of a
padding memory, forwards and backwards, in bfloat16; errors are against float32.
"""

import statistics
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import tyro
from rich.console import Console
from rich.table import Table

from benchmarks.common import alternate
from whisfusion_jax.cli import run
from whisfusion_jax.models.layers import attend

Arrays = tuple[jax.Array, jax.Array, jax.Array]
SHAPES = {
    "encoder, large-v3": (16, 20, 1500, 1500, False),
    "cross, tiny.en, a memory": (180, 6, 256, 650, True),
}
"""Batch, heads, queries, keys, and whether there is a bias."""


def main() -> None:
    """Print errors and times, each the median of five."""
    table = Table(title=jax.devices()[0].device_kind)
    for column in ("", "way", "error", "of gradients", "ms", "with gradients"):
        table.add_column(column, justify="left" if column in ("", "way") else "right")
    for name, (batch, heads, queries, keys, biased) in SHAPES.items():
        sizes = (queries, keys, keys)
        drawn = [
            jax.random.normal(jax.random.key(n), (batch, heads, size, 64)) / 2
            for n, size in enumerate(sizes)
        ]
        bias = jnp.where(jnp.arange(keys) < keys - 100, 0.0, 3.0) if biased else None
        narrow = tuple(each.astype(jnp.bfloat16) for each in drawn)
        # A mask that hides nothing, and float32, are no matter for cuDNN.
        nothing = jnp.ones((queries, keys), bool)
        ways = {
            "as chosen": partial(attend, bias=bias),
            "products": partial(attend, bias=bias, mask=nothing),
        }
        truth = _both(ways["products"])(*drawn)
        runs: dict[str, Callable[[], object]] = {}
        errors = {}
        for way, function in ways.items():
            forward, both = jax.jit(function), _both(function)
            errors[way] = [_error(*each) for each in zip(both(*narrow), truth, strict=True)]
            runs[way] = partial(_finish, forward, narrow)
            runs[f"{way}, gradients"] = partial(_finish, both, narrow)
        times = {way: 1e3 * statistics.median(each) for way, each in alternate(runs).items()}
        for way in ways:
            output, gradients = errors[way]
            table.add_row(
                name, way, f"{output:.1e}", f"{gradients:.1e}", f"{times[way]:.2f}",
                f"{times[way + ', gradients']:.2f}",
            )  # fmt: skip
    Console(width=120).print(table)


def _finish(function: Callable[..., object], arrays: Arrays) -> object:
    return jax.block_until_ready(function(*arrays))


def _both(function: Callable[..., jax.Array]) -> Callable[..., tuple[jax.Array, Arrays]]:
    """What it gives, and the gradients of its squares' sum."""

    def loss(*each: jax.Array) -> tuple[jax.Array, jax.Array]:
        out = function(*each)
        return jnp.square(out.astype(jnp.float32)).sum(), out

    @jax.jit
    def both(*each: jax.Array) -> tuple[jax.Array, Arrays]:
        gradients, out = jax.grad(loss, argnums=(0, 1, 2), has_aux=True)(*each)
        return out, gradients

    return both


def _error(found: object, truth: object) -> float:
    """The largest of each array's distance to the true one, as a share of its norm."""
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(truth), strict=True)
    return max(
        float(jnp.linalg.norm((a - b).ravel()) / jnp.linalg.norm(b.ravel())) for a, b in pairs
    )


if __name__ == "__main__":
    run(lambda: tyro.cli(main, description=__doc__))
