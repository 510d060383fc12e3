"""Where each parameter lies: one table, by name, for every model and for optimizer states.

Kernels are spread over `tensor` so that a block needs one sum over devices after its attention and
one after its feed-forward layer (Megatron-LM, arXiv 1909.08053), and over `fsdp` on their other
axis (ZeRO, arXiv 1910.02054).
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

RULES: Sequence[tuple[str, tuple[str | None, ...]]] = (
    (r"(query|key|value|gate|up)\.kernel", ("fsdp", "tensor")),
    (r"(out|down)\.kernel", ("tensor", "fsdp")),
    (r"(query|key|value|gate|up)\.bias", ("tensor",)),
    (r"conv\d\.kernel", (None, "fsdp", "tensor")),
    (r"embedding", ("tensor", "fsdp")),
    (r"positions", (None, "fsdp")),
    (r"adapter\.down", ("fsdp", None)),
    (r"adapter\.up", (None, "fsdp")),
)
"""The end of a name, and the mesh axes of its last dimensions. What no line fits is everywhere."""


def spec_for(name: str, shape: Sequence[int], mesh: Mesh) -> P:
    """A parameter's axes; dimensions that an axis does not divide stay whole.

    Args:
        name: dotted, such as `blocks.3.mlp.up.kernel`.
    """
    for pattern, axes in RULES:
        if re.search(rf"(^|\.)({pattern})$", name) and len(shape) >= len(axes):
            # Layers that are stacked have another dimension in front.
            whole = (None,) * (len(shape) - len(axes)) + axes
            return P(*(_fitting(*pair, mesh) for pair in zip(whole, shape, strict=True)))
    return P()


def _fitting(axis: str | None, size: int, mesh: Mesh) -> str | None:
    return axis if axis and size % mesh.shape[axis] == 0 else None


def shardings(tree: Any, mesh: Mesh) -> Any:
    """The sharding of every leaf of a model's or an optimizer's state, by its name."""

    def sharding(path: tuple[Any, ...], leaf: Any) -> NamedSharding:
        return NamedSharding(mesh, spec_for(name_of(path), leaf.shape, mesh))

    return jax.tree_util.tree_map_with_path(sharding, tree)


def name_of(path: tuple[Any, ...]) -> str:
    """A leaf's dotted name within a tree."""
    return jax.tree_util.keystr(path, simple=True, separator=".").removesuffix(".value")


def made_sharded(make: Callable[..., Any], mesh: Mesh, *args: Any) -> Any:
    """What `make` returns, each array made where it is to lie, none of them whole on a device."""
    placed = shardings(jax.eval_shape(make, *args), mesh)
    return jax.jit(make, out_shardings=placed)(*args)


def gathered(array: jax.Array) -> np.ndarray:
    """A whole array on the host, from wherever its parts lie; every process must ask."""
    if not array.is_fully_addressable:
        whole = NamedSharding(array.sharding.mesh, P())  # type: ignore[attr-defined]
        array = jax.jit(lambda each: each, out_shardings=whole)(array)
    return np.asarray(array.addressable_data(0) if not array.is_fully_addressable else array)
