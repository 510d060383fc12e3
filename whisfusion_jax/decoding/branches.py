"""Which drafted tokens are verified in one pass: a chain, or a small tree.

A draft has several likely tokens for each position. A tree holds some of their combinations, so
that a pass of the decoder finds the right one among them (as in Medusa, arXiv 2401.10774).
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class Branches:
    """A tree, the root of which is the last known token; a compiled program's key."""

    ranks: tuple[tuple[int, ...], ...]
    """Each other node's way from the root: at each position, the rank of its token among the
    likeliest, from 0. A way without its last step comes earlier."""

    @property
    def size(self) -> int:
        """Positions that a draft must cover."""
        return max(map(len, self.ranks))

    @property
    def ways(self) -> int:
        """Likely tokens that a draft must name for each position."""
        return 1 + max(map(max, self.ranks))

    @cached_property
    def drafted(self) -> tuple[np.ndarray, np.ndarray]:
        """Each node's position and rank in a draft: two of [nodes]; the root is left out."""
        return np.array([len(way) - 1 for way in self.ranks]), np.array([w[-1] for w in self.ranks])

    @cached_property
    def depth(self) -> np.ndarray:
        """[1 + nodes]: positions behind the root."""
        return np.array([0, *map(len, self.ranks)])

    @cached_property
    def lines(self) -> np.ndarray:
        """[1 + nodes, 1 + size]: the nodes from the root to each one, which fills the rest."""
        number = {(): 0} | {way: 1 + i for i, way in enumerate(self.ranks)}
        return np.array([[number[way[:depth]] for depth in range(1 + self.size)] for way in number])

    @cached_property
    def sees(self) -> np.ndarray:
        """[1 + nodes, 1 + nodes] bool: which nodes stand on the line to each."""
        nodes = np.arange(len(self.lines))
        return (self.lines[:, :, None] == nodes).any(1)


def chain(size: int) -> Branches:
    """The likeliest token at each position."""
    return Branches(tuple((0,) * depth for depth in range(1, size + 1)))


CHAIN = chain(4)
"""For a CPU, where every token of a pass costs."""

_WAYS = (
    "0 00 000 0000 001 00000 01 0001 0010 010 00001 000000 00010 "
    "02 002 000001 0002 011 0100 00100 0011 00011 000010 00101"
)

TREE = Branches(tuple(tuple(map(int, way)) for way in _WAYS.split()))
"""For an accelerator, where a pass over some tokens costs as much as one over a single token. The
ways that are right most often (`python -m benchmarks.exact tree`)."""
