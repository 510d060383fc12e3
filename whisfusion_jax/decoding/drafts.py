"""A draft of the whole text, and where in it the text that stands has come to.

The draft is what a CTC head hears (`models/ctc.py`), all at once, before the first pass. Whisper
writes some words otherwise, leaves some out and puts some in. So what stands is aligned with the
draft by edit distance, token by token, and the draft goes on behind the beginning that is nearest.
"""

from dataclasses import dataclass
from typing import Self

import jax
import jax.numpy as jnp

UNKNOWN = -1
"""In a draft: no token."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Draft:
    """Whole texts, and how sure each token of them is."""

    tokens: jax.Array
    """[rows, n] int32: a text, then end tokens."""
    sure: jax.Array
    """[rows, n] float32: the probability that a token is right; 1 behind the text."""

    @classmethod
    def of(cls, tokens: jax.Array, sure: jax.Array, length: int, end: int) -> Self:
        """What a CTC head heard, as `Merges` gives it, as texts of so many positions."""
        behind = ((0, 0), (0, max(0, length - tokens.shape[1])))
        tokens = jnp.pad(tokens, behind, constant_values=UNKNOWN)[:, :length]
        sure = jnp.pad(sure, behind, constant_values=1.0)[:, :length]
        there = tokens >= 0
        return cls(jnp.where(there, tokens, end), jnp.where(there, sure, 1.0))


def draft_of(tokens: jax.Array, sure: jax.Array, length: int, end: int) -> jax.Array:
    """A draft out of what was heard, with the end token behind.

    Args:
        tokens: [rows, n] int32, negative behind a row's text.
        sure: [rows, n]: False where a token is not to be drafted.
        length: of the draft; what is longer is cut.

    Returns:
        [rows, length] int32; UNKNOWN behind the end token, too.
    """
    there = (tokens >= 0).sum(1, keepdims=True)
    tokens = jnp.where(sure & (tokens >= 0), tokens, UNKNOWN)
    filled = jnp.pad(tokens, ((0, 0), (0, length)), constant_values=UNKNOWN)[:, :length]
    return jnp.where(jnp.arange(length) == there, end, filled)


def start(draft: jax.Array) -> jax.Array:
    """Edit distances of an empty text to each beginning of a draft: [rows, length + 1] int32."""
    return jnp.broadcast_to(jnp.arange(draft.shape[1] + 1), (len(draft), draft.shape[1] + 1))


def follow(
    distances: jax.Array, draft: jax.Array, tokens: jax.Array, count: jax.Array
) -> jax.Array:
    """The distances once more of the text stands.

    Args:
        distances: [rows, length + 1].
        draft: [rows, length].
        tokens: [rows, n]: what comes behind the text,
        count: [rows]: and how many of them.
    """
    place = jnp.arange(distances.shape[1])

    def one(number: jax.Array, distances: jax.Array) -> jax.Array:
        token = jax.lax.dynamic_index_in_dim(tokens, number, axis=1)
        replaced = distances[:, :-1] + (draft != token)
        # The token is put in, or stands for one of the draft's.
        grown = (distances + 1).at[:, 1:].min(replaced)
        # Or some of the draft's are left out: the nearest of all shorter beginnings.
        grown = place + jax.lax.cummin(grown - place, axis=1)
        return jnp.where(number < count[:, None], grown, distances)

    return jax.lax.fori_loop(0, tokens.shape[1], one, distances)


def reached(distances: jax.Array) -> jax.Array:
    """How far in the draft what stands has come: [rows] int32."""
    # Of equally near beginnings the longest: a word is written otherwise more often than put in.
    return distances.shape[1] - 1 - distances[:, ::-1].argmin(1)


def rest(distances: jax.Array, draft: jax.Array, count: int) -> jax.Array:
    """How the draft goes on behind what stands: [rows, count] int32, UNKNOWN where it doesn't."""
    filled = jnp.pad(draft, ((0, 0), (0, count)), constant_values=UNKNOWN)
    begin = reached(distances)
    return jax.vmap(lambda row, at: jax.lax.dynamic_slice_in_dim(row, at, count))(filled, begin)
