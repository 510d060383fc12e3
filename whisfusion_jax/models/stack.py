"""Blocks that are alike as one: a large model compiles one layer, whatever their number."""

from collections.abc import Callable
from typing import Any, Literal, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx

from whisfusion_jax.models.layers import keep_rows

Kept = Literal["nothing", "products"]
"""What a scanned layer keeps for the gradient beside its input: nothing, or its products with
weights too. The rest is computed again."""

_POLICIES = {
    "nothing": jax.checkpoint_policies.nothing_saveable,
    "products": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}

Model = TypeVar("Model", bound=nnx.Module)


class Stack(nnx.Module):
    """Blocks of one shape as a single one, whose arrays have an axis [layers] in front."""

    def __init__(self, blocks: nnx.List, keep: Kept) -> None:
        graphs, states = zip(*map(nnx.split, blocks), strict=True)
        stacked = jax.tree.map(lambda *layers: jnp.stack(layers), *states)
        self.block = nnx.merge(graphs[0], stacked)
        self.keep = keep

    def scan(self, call: Callable[..., jax.Array], x: jax.Array, each: Any) -> jax.Array:
        """As `through`."""
        graph, state = nnx.split(self.block)

        def layer(x: jax.Array, own: tuple[Any, Any]) -> tuple[jax.Array, None]:
            return keep_rows(call(nnx.merge(graph, own[0]), x, *own[1])), None

        recomputed = jax.checkpoint(layer, policy=_POLICIES[self.keep])
        return jax.lax.scan(recomputed, x, (state, each))[0]


def through(
    blocks: nnx.List | Stack, call: Callable[..., jax.Array], x: jax.Array, *each: jax.Array
) -> jax.Array:
    """Send x through blocks, one after the other.

    Args:
        call: a block, x, and the block's part of each of `each`, to the next x.
        each: [layers, ...].
    """
    x = keep_rows(x)
    if isinstance(blocks, Stack):
        return blocks.scan(call, x, each)
    for number, block in enumerate(blocks):
        x = keep_rows(call(block, x, *(array[number] for array in each)))
    return x


def stacked(model: Model, keep: Kept) -> Model:
    """A model, changed in place, whose blocks are one stack."""
    model.blocks = Stack(model.blocks, keep)  # type: ignore[attr-defined]
    return model


def unstacked(model: Model) -> Model:
    """A model, changed in place, whose blocks stand one by one."""
    if isinstance(stack := model.blocks, Stack):  # type: ignore[attr-defined]
        graph, state = nnx.split(stack.block)
        layers = jax.tree.leaves(state)[0].shape[0]
        model.blocks = nnx.List(  # type: ignore[attr-defined]
            nnx.merge(graph, jax.tree.map(lambda array, n=n: array[n], state))
            for n in range(layers)
        )
    return model
