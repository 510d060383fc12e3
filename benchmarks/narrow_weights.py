"""A decoder's product with the vocabulary, in tiles and in narrower weights, by rows read at once.

python -m benchmarks.narrow_weights
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import tyro
from rich.console import Console

from benchmarks.common import alternate, timing_table
from whisfusion_jax.models.output import arg_max
from whisfusion_jax.models.tiles import in_tiles, times_tiles

Product = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
TURNS = 50
"""Of each product, in one program, as a decoder's loop has them."""


def main(vocabulary: int = 51_864, width: int = 384, rows: tuple[int, ...] = (1, 4, 8)) -> None:
    """Time float32, the same in tiles, bfloat16, and int8 with a scale for each token."""
    table = jax.random.normal(jax.random.key(0), (vocabulary, width))
    scale = jnp.abs(table).max(1, keepdims=True) / 127
    narrow = jnp.round(table / scale).astype(jnp.int8)
    tiles = in_tiles(table.T)
    by_tiles: Product = lambda h, t, s: times_tiles(h, t, vocabulary)  # noqa: E731
    products = {
        "float32": (lambda h, t, s: h @ t.T, table),
        "float32 in tiles": (by_tiles, tiles),
        "float32 in tiles of one part": (by_tiles, tiles.reshape(len(tiles), 1, width, -1)),
        "bfloat16": (lambda h, t, s: h.astype(jnp.bfloat16) @ t.T, table.astype(jnp.bfloat16)),
        "int8, made float32 in the product": (
            lambda h, t, s: (h @ t.astype(jnp.float32).T) * s[:, 0], narrow
        ),
        "int8 times int8": (
            lambda h, t, s: _int8_product(h, t) * s[:, 0], narrow
        ),
    }  # fmt: skip
    for count in rows:
        hidden = jax.random.normal(jax.random.key(1), (count, width))

        def repeat(product, h, t, s):  # type: ignore[no-untyped-def]
            def turn(_, h):  # type: ignore[no-untyped-def]
                return h + 1e-9 * arg_max(product(h, t, s).astype(jnp.float32))[:, None]

            return jax.lax.fori_loop(0, TURNS, turn, h)

        contenders = {}
        for name, (product, weights) in products.items():
            run = jax.jit(partial(repeat, product))
            contenders[name] = partial(
                lambda run, *a: run(*a).block_until_ready(), run, hidden, weights, scale
            )
        title = f"{TURNS} products and arg-maxes, {count} rows, {vocabulary} tokens"
        Console().print(timing_table(title, alternate(contenders), "float32"))


def _int8_product(hidden: jax.Array, table: jax.Array) -> jax.Array:
    """Rows rounded to eight bits too, sums in int32."""
    scale = jnp.abs(hidden).max(1, keepdims=True) / 127
    rounded = jnp.round(hidden / scale).astype(jnp.int8)
    total = jnp.matmul(rounded, table.T, preferred_element_type=jnp.int32)
    return total.astype(jnp.float32) * scale


if __name__ == "__main__":
    tyro.cli(main)
