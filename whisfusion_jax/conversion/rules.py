"""How a format's table of names maps its tensors to ours."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto

import numpy as np


class Kind(Enum):
    """What stands behind a name, and so which leaves it has and how they are laid out."""

    LINEAR = auto()
    """Weight [out, in] to kernel [in, out]; bias."""
    LINEAR_NO_BIAS = auto()
    """The same without a bias; a stacked source's bias part must be zero."""
    CONVOLUTION = auto()
    """Weight [out, in, taps] to kernel [taps, in, out]; bias."""
    NORM = auto()
    """Weight to scale; bias."""
    POINTWISE = auto()
    """Weight [out, in, 1] of a convolution to kernel [in, out]; bias."""
    POINTWISE_NO_BIAS = auto()
    CONVOLUTION_NO_BIAS = auto()
    PLANE = auto()
    """Weight [out, in, frames, bins] to kernel [frames, bins, in, out]; bias."""
    BATCH_NORM = auto()
    """Weight to scale; bias; running_mean to mean; running_var to variance."""
    TABLE = auto()
    """One tensor, kept as it is."""


_BIASED = {Kind.LINEAR, Kind.POINTWISE, Kind.CONVOLUTION, Kind.PLANE}


@dataclass(frozen=True)
class Rule:
    """One row of a format's table; `*` stands for the layer's number."""

    ours: str
    theirs: str
    kind: Kind
    part: int = 0
    """Which of `parts` equal slices of the source's rows, where several are stacked."""
    parts: int = 1


@dataclass(frozen=True)
class LeafNames:
    """How a format spells the tensors of one module."""

    separator: str
    norm_scale: str
    norm_bias: str


@dataclass(frozen=True)
class Source:
    """Where one of our tensors comes from."""

    name: str
    axes: tuple[int, ...] | None = None
    """The transposition, if any."""
    part: int = 0
    parts: int = 1

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Our shape of a source tensor of this shape."""
        shape = self._without_ones((shape[0] // self.parts, *shape[1:]))
        if self.axes is None or len(self.axes) != len(shape):
            return shape
        return tuple(shape[axis] for axis in self.axes)

    def _without_ones(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Without the single tap of a pointwise convolution."""
        kept = len(self.axes or shape)
        return shape[:kept] if set(shape[kept:]) == {1} else shape

    def take(self, tensor: np.ndarray) -> np.ndarray:
        """Our tensor out of the source's."""
        rows = tensor.shape[0] // self.parts
        tensor = tensor[self.part * rows : (self.part + 1) * rows]
        tensor = tensor.reshape(self._without_ones(tensor.shape))
        return np.ascontiguousarray(tensor.transpose(self.axes) if self.axes else tensor)


@dataclass(frozen=True)
class Plan:
    """Every tensor's source."""

    tensors: Mapping[str, Source]
    """By our name."""
    zeros: tuple[Source, ...]
    """Source slices that must be zero: biases that Whisper's keys don't have."""


def plan(rules: tuple[Rule, ...], leaves: LeafNames, layers: Mapping[str, int]) -> Plan:
    """Spell a table out, tensor by tensor.

    Args:
        layers: by the first part of our names, such as `encoder`.
    """
    tensors: dict[str, Source] = {}
    zeros: list[Source] = []
    for rule in rules:
        count = layers[rule.ours.partition(".")[0]] if "*" in rule.ours else 1
        for layer in range(count):
            ours, theirs = (n.replace("*", str(layer)) for n in (rule.ours, rule.theirs))
            for leaf, their_leaf, axes in _leaves(rule.kind, leaves):
                source = Source(theirs + their_leaf, axes, rule.part, rule.parts)
                tensors[ours + leaf] = source
            if rule.kind is Kind.LINEAR_NO_BIAS and rule.parts > 1:
                bias = f"{theirs}{leaves.separator}bias"
                zeros.append(Source(bias, None, rule.part, rule.parts))
    return Plan(tensors, tuple(zeros))


def _leaves(kind: Kind, names: LeafNames) -> Iterator[tuple[str, str, tuple[int, ...] | None]]:
    """(our leaf, their leaf, transposition) of a module."""
    at = names.separator
    match kind:
        case Kind.LINEAR | Kind.LINEAR_NO_BIAS | Kind.POINTWISE | Kind.POINTWISE_NO_BIAS:
            yield ".kernel", f"{at}weight", (1, 0)
        case Kind.CONVOLUTION | Kind.CONVOLUTION_NO_BIAS:
            yield ".kernel", f"{at}weight", (2, 1, 0)
        case Kind.PLANE:
            yield ".kernel", f"{at}weight", (2, 3, 1, 0)
        case Kind.NORM:
            yield ".scale", f"{at}{names.norm_scale}", None
            yield ".bias", f"{at}{names.norm_bias}", None
        case Kind.BATCH_NORM:
            yield ".scale", f"{at}{names.norm_scale}", None
            yield ".bias", f"{at}{names.norm_bias}", None
            yield ".mean", f"{at}running_mean", None
            yield ".variance", f"{at}running_var", None
        case Kind.TABLE:
            yield "", "", None
    if kind in _BIASED:
        yield ".bias", f"{at}bias", None
