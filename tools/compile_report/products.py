"""Matrix products of a program, by its jaxpr: a compiler for GPUs that aren't here counts none."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

from jax.extend.core import ClosedJaxpr, Jaxpr


@dataclass(frozen=True)
class Products:
    """Of all devices."""

    flops: float
    """Multiplications and additions."""
    bytes: float
    """Read and written by products, as if nothing stayed in a cache between two of them."""

    def __add__(self, other: "Products") -> "Products":
        return Products(self.flops + other.flops, self.bytes + other.bytes)

    def __mul__(self, times: float) -> "Products":
        return Products(self.flops * times, self.bytes * times)


NOTHING = Products(0.0, 0.0)
_CUDNN = {"dot_product_attention_fwd": 2, "dot_product_attention_bwd": 5}
"""Products in cuDNN's attention, whose program JAX doesn't see; scores are made anew for
gradients."""


@dataclass(frozen=True)
class Work:
    """A program's products, and those of a pass of each loop that ends when it may."""

    once: Products = NOTHING
    passes: tuple[Products, ...] = ()

    def __add__(self, other: "Work") -> "Work":
        return Work(self.once + other.once, self.passes + other.passes)

    def __mul__(self, times: float) -> "Work":
        return Work(self.once * times, tuple(each * times for each in self.passes))


def work_of(jaxpr: Jaxpr | ClosedJaxpr, platform: str = "cpu") -> Work:
    """Count a program's products; a loop whose length is written counts so often.

    Of branches the dearest counts, but where platforms differ.

    Args:
        platform: that the program is for, as JAX lowers to it: "cpu", "cuda", "tpu".
    """
    found = Work()
    for equation in getattr(jaxpr, "jaxpr", jaxpr).eqns:
        found = found + _of(equation, platform)
    return found


def _of(equation: Any, platform: str) -> Work:
    name = equation.primitive.name
    inner = [work_of(each, platform) for each in _inner(equation.params)]
    if name in ("dot_general", "conv_general_dilated"):
        return Work(_product(equation))
    for kind, products in _CUDNN.items():
        if name.startswith(kind):
            return Work(_attention(equation, products))
    if name == "cond":
        for branch, platforms in enumerate(equation.params.get("branches_platforms") or ()):
            if platforms is None or platform in platforms:
                return inner[branch]
        return max(inner, key=lambda work: sum(work.passes, work.once).flops)
    if name == "while":  # its end isn't known beforehand
        body = sum(inner, Work())
        passes = (body.once, *body.passes) if body.once.flops else body.passes
        return Work(passes=passes)
    times = equation.params["length"] if name == "scan" else 1
    if name == "shard_map":  # written for one device
        times = prod(
            equation.params["mesh"].shape[axis] for axis in equation.params["newly_manual_axes"]
        )
    return sum(inner, Work()) * times


def _product(equation: Any) -> Products:
    arrays = [each.aval for each in (*equation.invars, *equation.outvars)]
    left, right, out = arrays[:3]
    if equation.primitive.name == "dot_general":
        ((contracted, _), _) = equation.params["dimension_numbers"]
        summed = prod(left.shape[axis] for axis in contracted)
    else:
        # Each result sums over a kernel, less the channels that it makes.
        made = equation.params["dimension_numbers"].rhs_spec[0]
        summed = right.size // right.shape[made]
    size = sum(each.size * each.dtype.itemsize for each in arrays)
    return Products(2.0 * out.size * summed, float(size))


def _attention(equation: Any, products: int) -> Products:
    arrays = [each.aval for each in (*equation.invars, *equation.outvars)]
    queries, keys = arrays[:2]  # [batch, positions, heads, features]
    size = sum(each.size * each.dtype.itemsize for each in arrays)
    return Products(2.0 * products * queries.size * keys.shape[1], float(size))


def _inner(params: dict[str, Any]) -> Iterator[Jaxpr | ClosedJaxpr]:
    for value in params.values():
        for each in value if isinstance(value, tuple | list) else (value,):
            if isinstance(each, Jaxpr | ClosedJaxpr):
                yield each
