"""A compiled loop over a batch whose rows leave when they are done.

A batch takes as many steps as its longest text, and most are much shorter; one that goes astray, as
Whisper's sometimes do, writes on for ten times as long as its neighbours. So once few rows are
left, these go on by themselves.
"""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import jax
import jax.numpy as jnp

State = TypeVar("State")
Rows = TypeVar("Rows")

SHRINK = 4
"""A loop goes on with a quarter of the rows as soon as that holds all who are not done. Each time
is one more copy of the step to compile, of which halves would need twice as many."""


def while_any(
    live: Callable[[State], jax.Array],
    step: Callable[[Rows, State], State],
    rows: Rows,
    state: State,
) -> State:
    """Take steps while any row is live.

    Every array of `rows` and `state` has the batch's rows first, or as many for each of them, one
    utterance's behind the other's; a scalar belongs to all. Rows must not touch each other, and
    what a row has written stands once it is no longer live, however many steps follow.

    Args:
        live: [batch] bool of a state.
        rows: what steps read and don't change.
        state: what they change.
    """
    batch = jax.eval_shape(live, state).shape[0]
    fewer = batch // SHRINK
    state = jax.lax.while_loop(lambda state: live(state).sum() > fewer, partial(step, rows), state)
    if not fewer:
        return state
    who = jnp.argsort(~live(state), stable=True)[:fewer]

    def pick(each: jax.Array) -> jax.Array:
        return _by_row(each, batch)[who].reshape(-1, *each.shape[1:]) if each.ndim else each

    def put(each: jax.Array, new: jax.Array) -> jax.Array:
        put = _by_row(each, batch).at[who].set(_by_row(new, fewer)) if each.ndim else new
        return put.reshape(each.shape)

    rest = while_any(live, step, jax.tree.map(pick, rows), jax.tree.map(pick, state))
    return jax.tree.map(put, state, rest)


def _by_row(each: jax.Array, batch: int) -> jax.Array:
    return each.reshape(batch, each.shape[0] // batch, *each.shape[1:])
