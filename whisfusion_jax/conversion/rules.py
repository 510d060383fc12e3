"""How a format's table of names maps its tensors to ours."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto

import numpy as np

from whisfusion_jax.config import WhisperConfig


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
    TABLE = auto()
    """One tensor, kept as it is."""


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
        shape = (shape[0] // self.parts, *shape[1:])
        if self.axes is None or len(self.axes) != len(shape):
            return shape
        return tuple(shape[axis] for axis in self.axes)

    def take(self, tensor: np.ndarray) -> np.ndarray:
        """Our tensor out of the source's."""
        rows = tensor.shape[0] // self.parts
        tensor = tensor[self.part * rows : (self.part + 1) * rows]
        return np.ascontiguousarray(tensor.transpose(self.axes) if self.axes else tensor)


@dataclass(frozen=True)
class Plan:
    """Every tensor's source."""

    tensors: Mapping[str, Source]
    """By our name."""
    zeros: tuple[Source, ...]
    """Source slices that must be zero: biases that Whisper's keys don't have."""


def plan(rules: tuple[Rule, ...], leaves: LeafNames, config: WhisperConfig) -> Plan:
    """Spell a table out, tensor by tensor, for a model of this size."""
    tensors: dict[str, Source] = {}
    zeros: list[Source] = []
    for rule in rules:
        layers = config.encoder_layers if rule.ours.startswith("enc") else config.decoder_layers
        for layer in range(layers) if "*" in rule.ours else (0,):
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
        case Kind.LINEAR:
            yield ".kernel", f"{at}weight", (1, 0)
            yield ".bias", f"{at}bias", None
        case Kind.LINEAR_NO_BIAS:
            yield ".kernel", f"{at}weight", (1, 0)
        case Kind.CONVOLUTION:
            yield ".kernel", f"{at}weight", (2, 1, 0)
            yield ".bias", f"{at}bias", None
        case Kind.NORM:
            yield ".scale", f"{at}{names.norm_scale}", None
            yield ".bias", f"{at}{names.norm_bias}", None
        case Kind.TABLE:
            yield "", "", None
