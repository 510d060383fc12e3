"""One pass's edits of a draft: what Whisper says of it, and the likeliest text out of both.

Where Whisper disagrees, the draft's token may be kept all the same, be replaced by Whisper's, be
pushed back by it, or be left out with some that follow. The likeliest of all is found by dynamic
programming.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from whisfusion_jax.decoding.drafts import Draft
from whisfusion_jax.decoding.vocabulary import likeliest

_SKIPPED = 3
"""Tokens that may be left out at one place."""
_LEAST = 1e-3
"""Nothing is surer to be wrong, or right, than one less this."""


@dataclass(frozen=True)
class Prices:
    """What edits cost, and how sure they are; chosen on real recordings (docs/results.md)."""

    put_in: float = -2.0
    """Added to the log-probability of a token that pushes the draft's back."""
    left_out: float = 0.3
    """Added for each token that is left out."""
    new: float = 0.2
    """Of Whisper's own probability of a token that it puts in: so sure is it until the next
    pass."""
    kept: float = 0.5
    """Share of its sureness that a token keeps which Whisper gives less."""
    found: float = 0.9
    """How sure a token is before which others were left out."""
    follows: float = 0.9
    """How sure what Whisper writes behind its neighbour is at most, if that is left out, too."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Window:
    """What a pass says of the positions behind those that stand, all [rows, size]."""

    tokens: jax.Array
    """The draft's."""
    sure: jax.Array
    own: jax.Array
    """Whisper's likeliest token behind each beginning,"""
    logprob: jax.Array
    """and its log-probability."""
    near: jax.Array
    """[rows, size, _SKIPPED + 1]: those of the draft's token and the next ones."""


def window_of(draft: Draft, at: jax.Array, logits: jax.Array, end: int) -> Window:
    """What logits say of a draft.

    Args:
        at: [rows, size]: the positions that they are of.
        logits: [rows, size, vocabulary].
        end: the end token.
    """
    tokens, sure = (jnp.take_along_axis(each, at, axis=1) for each in (draft.tokens, draft.sure))
    own, logprob = likeliest(logits)
    near = jnp.take_along_axis(logits, _following(tokens, end), axis=-1)
    return Window(
        tokens, sure, own, logprob, near - jax.nn.logsumexp(logits, axis=-1, keepdims=True)
    )


def _following(tokens: jax.Array, end: int) -> jax.Array:
    """[rows, n, _SKIPPED + 1]: each position's token, and the next ones."""
    behind = jnp.pad(tokens, ((0, 0), (0, _SKIPPED)), constant_values=end)
    n = tokens.shape[1]
    return jnp.stack([behind[:, k : k + n] for k in range(_SKIPPED + 1)], axis=-1)


_KEEP, _REPLACE, _PUT, _SKIP = 0, 1, 2, 2
"""What is done at a position; `_SKIP + k` leaves out k tokens."""


def choose(window: Window, stop: jax.Array, end: int, prices: Prices) -> jax.Array:
    """What to do at each position, if a path comes there: [rows, size] int32.

    Args:
        stop: [rows, 1]: all before it is kept, and Whisper's own token comes there.
    """
    tokens, own, near = window.tokens, window.own, window.near
    n = tokens.shape[1]
    ends = tokens == end
    sure = jnp.clip(window.sure, _LEAST, 1 - _LEAST)
    wrong, right = jnp.log1p(-sure), jnp.log(sure)
    differs = (own != tokens) & (own != end)
    replaced = jnp.where(differs & ~ends, window.logprob + wrong, -jnp.inf)
    # The end is no word that is heard: what Whisper finds likelier comes before it.
    put = jnp.where(differs, window.logprob + jnp.where(ends, 0.0, right + prices.put_in), -jnp.inf)
    follows = jnp.maximum(sure, prices.follows * jnp.exp(near[..., 0]))
    # Of several that are left out, those behind the first may be Whisper's own.
    alone, among = (jnp.pad(each, ((0, 0), (0, _SKIPPED))) for each in (wrong, jnp.log1p(-follows)))
    over = jnp.pad(ends, ((0, 0), (0, _SKIPPED)), constant_values=True)
    costs, ended = jnp.zeros_like(wrong), jnp.zeros_like(ends)
    skipped = []
    for k in range(_SKIPPED):
        cost = (among if k else alone)[:, k : k + n] + prices.left_out
        costs, ended = costs + cost, ended | over[:, k : k + n]
        skipped.append(jnp.where(ended, -jnp.inf, costs + near[..., k + 1]))
    scores = jnp.stack([near[..., 0], replaced, put, *skipped], axis=-1)
    # Behind the end token nothing is left to do, nor to gain.
    keeps = jnp.arange(scores.shape[-1]) == _KEEP
    nothing = jnp.where(keeps, 0.0, -jnp.inf)
    through = jnp.cumsum(ends, 1) - ends == 0
    scores = jnp.where(through[..., None], scores, nothing)
    found = _following(tokens, end)[..., 1:] == own[..., None]
    writes = jnp.concatenate([jnp.ones((*own.shape, 2), bool), found], axis=-1)
    writes = jnp.pad(writes, ((0, 0), (0, 0), (1, 0))) | ~(differs & through)[..., None]
    index, stop = jnp.arange(n)[:, None], stop[..., None]
    scores = jnp.where((index == stop) & ~writes, -jnp.inf, scores)
    scores = jnp.where(index < stop, nothing, scores)

    def best(after: jax.Array, score: jax.Array) -> tuple[jax.Array, jax.Array]:
        # after: [rows, _SKIPPED + 1], of the paths from the next positions on
        whole = score + jnp.concatenate([after[:, :1], after[:, :1], after], axis=1)
        value = jnp.concatenate([whole.max(1)[:, None], after[:, :-1]], axis=1)
        return value, whole.argmax(1).astype(jnp.int32)

    start = jnp.zeros((len(tokens), _SKIPPED + 1))
    _, choice = jax.lax.scan(best, start, jnp.moveaxis(scores, 1, 0), reverse=True)
    return choice.T


class Known(NamedTuple):
    """A draft and what is known of its tokens, all of [rows, positions]."""

    draft: Draft
    confidence: jax.Array
    """Each token's probability by Whisper."""
    fixed_at: jax.Array
    """The pass that wrote it."""


def edited(
    known: Known,
    begin: jax.Array,
    window: Window,
    choice: jax.Array,
    now: jax.Array,
    prices: Prices,
) -> Known:
    """The draft along the path that was chosen, the rest moved to its end.

    Args:
        begin: [rows]: where the window begins.
        now: this pass's number.
    """
    rows, size = window.tokens.shape

    def walk(left: jax.Array, choice: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        # left: [rows], of a place where tokens are left out: these, and the one behind
        free = left == 0
        done = jnp.where(free, choice, jnp.where(left == 1, _KEEP, -1))
        skips = free & (choice > _SKIP)
        after = jnp.where(skips, choice - _SKIP, jnp.maximum(left - 1, 0))
        return after, (jnp.where(skips, -1, done), ~free)

    _, (done, found) = jax.lax.scan(walk, jnp.zeros(rows, jnp.int32), choice.T)
    done, found = done.T, found.T
    stands = (done == _KEEP) | (done == _PUT)
    fresh = (done == _REPLACE) | (done == _PUT)
    count = stands.astype(jnp.int32) + fresh
    begin = begin[:, None]
    to = begin + jnp.cumsum(count, 1) - count
    before = known.draft
    total = before.tokens.shape[1]
    # Where the rest comes from, and what is there already.
    where = jnp.arange(total)
    source = jnp.clip(where + size - count.sum(1, keepdims=True), 0, total - 1)
    source = jnp.where(where < begin, where, source)

    def put(whole: jax.Array, old: jax.Array, new: jax.Array) -> jax.Array:
        """Both kinds of tokens at their places, a fresh one before one that stands."""

        def row(
            rest: jax.Array, to: jax.Array, fresh: jax.Array, stands: jax.Array,
            old: jax.Array, new: jax.Array,
        ) -> jax.Array:  # fmt: skip
            filled = rest.at[jnp.where(fresh, to, total)].set(new, mode="drop")
            return filled.at[jnp.where(stands, to + fresh, total)].set(old, mode="drop")

        rest = jnp.take_along_axis(whole, source, axis=1)
        return jax.vmap(row)(rest, to, fresh, stands, old, new.astype(whole.dtype))

    likely, kept = jnp.exp(window.logprob), jnp.exp(window.near[..., 0])
    # Whisper names it behind what was left out, not behind the token before it.
    kept = jnp.where(found, prices.found, kept)
    sure = jnp.where(found, prices.found, jnp.maximum(kept, prices.kept * window.sure))
    at = begin + jnp.arange(size)
    fixed_at = jnp.take_along_axis(known.fixed_at, at, axis=1)
    return Known(
        Draft(
            put(before.tokens, window.tokens, window.own),
            put(before.sure, sure, prices.new * likely),
        ),
        put(known.confidence, kept, likely),
        put(known.fixed_at, fixed_at, jnp.broadcast_to(now, fixed_at.shape)),
    )
