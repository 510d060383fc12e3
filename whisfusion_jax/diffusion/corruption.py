"""Which positions of a canvas are masked in training.

Every schedule is a small frozen dataclass, so that it can be a compiled program's key, and has the
one method of `Corruption`.
"""

from dataclasses import dataclass
from typing import Protocol

import jax
import jax.numpy as jnp


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Masked:
    """A corruption of some canvases."""

    mask: jax.Array
    """[rows, n]: True where a token is hidden."""
    ratio: jax.Array
    """[rows] float32: the mask ratio t that each row was drawn with, in (0, 1]."""


class Corruption(Protocol):
    """Draws masks."""

    def __call__(self, key: jax.Array, lengths: jax.Array, n: int) -> Masked:
        """Draw masks, at least one position a row.

        Args:
            lengths: [rows] int32, the text's tokens and its first end token.
            n: positions of a canvas.
        """


@dataclass(frozen=True)
class Uniform:
    """t ~ U(low, 1], stratified over the rows; each position is masked with probability t.

    With `low` at 0 the plain objective of masked diffusion (MDLM, LLaDA); at 0.7 Whisfusion's
    high-mask phase, which teaches where decoding starts.
    """

    low: float = 0.0
    fully: float = 0.0
    """Share of the rows, the first ones, that are masked whole."""

    def __call__(self, key: jax.Array, lengths: jax.Array, n: int) -> Masked:
        rows = lengths.shape[0]
        ratio = self.low + (1 - self.low) * _stratified(jax.random.fold_in(key, 0), rows)
        ratio = jnp.where(jnp.arange(rows) < round(self.fully * rows), 1.0, ratio)
        draws = jax.random.uniform(jax.random.fold_in(key, 1), (rows, n))
        return Masked(_at_least_one(draws < ratio[:, None], draws), ratio)


def high_mask(low: float = 0.7, fully: float = 0.125) -> Uniform:
    """Whisfusion's second phase: t ~ U[low, 1], and a share of rows with nothing visible."""
    return Uniform(low, fully)


@dataclass(frozen=True)
class Ahead:
    """A visible beginning, then masks, some lifted: what decoding by confidence meets.

    Confidence falls with the distance from what is known, so canvases under way look like this
    rather than evenly holed. This project's own.
    """

    lifted: float = 0.5
    """The most that is visible among the positions ahead; each row draws its share below."""

    def __call__(self, key: jax.Array, lengths: jax.Array, n: int) -> Masked:
        rows = lengths.shape[0]
        known = jnp.floor(_stratified(jax.random.fold_in(key, 0), rows) * lengths)
        known = jnp.minimum(known, lengths - 1)
        ahead = jnp.arange(n) >= known[:, None]
        lifted = jax.random.uniform(jax.random.fold_in(key, 1), (rows, 1), maxval=self.lifted)
        # Half of the rows keep every mask ahead.
        lifted = jnp.where(jnp.arange(rows)[:, None] % 2, lifted, 0.0)
        draws = jax.random.uniform(jax.random.fold_in(key, 2), (rows, n))
        mask = ahead & (draws >= lifted)
        mask = _at_least_one(mask, jnp.where(ahead, -draws, 1.0))
        return Masked(mask, mask.mean(-1))


@dataclass(frozen=True)
class Mixed:
    """Each canvas of an audio by another corruption, in turn."""

    parts: tuple[Corruption, ...]

    def __call__(self, key: jax.Array, lengths: jax.Array, n: int) -> Masked:
        turns = [jnp.arange(i, lengths.shape[0], len(self.parts)) for i in range(len(self.parts))]
        drawn = [
            part(jax.random.fold_in(key, 100 + i), lengths[turn], n)
            for i, (part, turn) in enumerate(zip(self.parts, turns, strict=True))
        ]
        order = jnp.argsort(jnp.concatenate(turns))
        return Masked(
            jnp.concatenate([each.mask for each in drawn])[order],
            jnp.concatenate([each.ratio for each in drawn])[order],
        )


def _stratified(key: jax.Array, rows: int) -> jax.Array:
    """[rows] in (0, 1], one in each of as many equal parts, in random order."""
    offset, order = jax.random.split(key)
    draws = (jnp.arange(rows) + 1 - jax.random.uniform(offset, (rows,))) / rows
    return jax.random.permutation(order, draws)


def _at_least_one(mask: jax.Array, draws: jax.Array) -> jax.Array:
    """Mask the position of each row's lowest draw where a row has no mask."""
    lowest = jnp.arange(mask.shape[-1]) == draws.argmin(-1)[:, None]
    return mask | (lowest & ~mask.any(-1, keepdims=True))
