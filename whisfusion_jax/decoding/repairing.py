"""A draft repaired everywhere at once, in a few passes, without any training: our own.

One pass says what Whisper writes behind each beginning of the draft. The text as far as Whisper
agrees stands, and so does Whisper's own token behind it: as many passes as a text has tokens make
it Whisper's greedy one, *exactly*. What follows is repaired in the same pass: where Whisper
disagrees, the draft's token may be kept all the same, be replaced by Whisper's, be pushed back by
it, or be left out with some that follow. What is likeliest together is found by dynamic
programming, and is the next pass's draft. So mistakes are mended side by side, and a text that is
cut short by its passes ends as the draft does. What stands is read from a cache ever after.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Self

import jax
import jax.numpy as jnp

from whisfusion_jax.decoding.autoregressive import Start, read_but_last, read_start
from whisfusion_jax.decoding.denoising import Denoised
from whisfusion_jax.decoding.leaving import while_any
from whisfusion_jax.decoding.vocabulary import Vocabulary, likeliest
from whisfusion_jax.models.decoder import Cache, CrossCache
from whisfusion_jax.models.denoiser import Denoiser

_SKIPPED = 3
"""Tokens that may be left out at one place."""
_PUT_IN, _LEFT_OUT = -2.0, 0.3
"""Added to the log-probabilities of these, the last for each token. They, and what follows, were
chosen on real recordings (docs/results.md)."""
_NEW = 0.2
"""Of Whisper's own probability of a token that it puts in: so sure is it until the next pass."""
_KEPT = 0.5
"""Share of its sureness that a token keeps which Whisper gives less."""
_FOUND = 0.9
"""How sure a token is before which others were left out."""
_FOLLOWS = 0.9
"""How sure what Whisper writes behind its neighbour is at most, if that is left out, too."""
_LEAST = 1e-3
"""Nothing is surer to be wrong, or right, than one less this."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Draft:
    """Texts to repair."""

    tokens: jax.Array
    """[rows, n] int32: a text, its end token, and end tokens."""
    sure: jax.Array
    """[rows, n] float32: the probability that a token is right."""

    @classmethod
    def of(cls, tokens: jax.Array, sure: jax.Array, length: int, end: int) -> Self:
        """What a CTC head heard, as `Merges` gives it, as texts of so many positions."""
        n = min(tokens.shape[1], length - 1)
        behind = ((0, 0), (0, length - n))
        tokens = jnp.pad(tokens[:, :n], behind, constant_values=-1)
        sure = jnp.pad(sure[:, :n], behind, constant_values=1.0)
        return cls(jnp.where(tokens < 0, end, tokens), sure)


@dataclass(frozen=True)
class Repairs:
    """Shapes and settings; part of a compiled program's key."""

    vocabulary: Vocabulary
    length: int
    """Of the texts."""
    size: int
    """Positions that a pass reads."""
    steps: int
    """Passes at most; `length` is enough for any text."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _State:
    step: jax.Array
    draft: Draft
    """[rows, positions], as all of `written`: prompt, text, and a pass's size more."""
    written: Denoised
    start: jax.Array
    """[rows]: the last position that stands, where the next pass begins."""
    done: jax.Array
    """[rows]: the text has ended."""
    cache: Cache


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _Window:
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


def repair(
    denoiser: Denoiser,
    cross: CrossCache,
    prompt: jax.Array,
    draft: Draft,
    how: Repairs,
    wanted: jax.Array,
) -> tuple[Denoised, Start]:
    """Repair each row's draft.

    Args:
        denoiser: of the warm kind, which reads as Whisper's decoder does.
        cross: of the batch's audio.
        prompt: [batch, p] int32, as `read_start` takes it.
        draft: [batch, length].
        wanted: [batch] bool: False for what fills the batch up.

    Returns:
        one candidate each, and what the start token says.
    """
    (rows, first), vocabulary = prompt.shape, how.vocabulary
    empty = denoiser.empty_cache(rows, first + how.length + how.size)
    said = read_start(denoiser.read, denoiser.logits, empty, cross, prompt, vocabulary)
    said = read_but_last(denoiser.read, cross, said, vocabulary)
    behind = ((0, 0), (first, how.size))
    tokens = jnp.pad(draft.tokens, behind, constant_values=vocabulary.end)
    tokens = tokens.at[:, :first].set(said.prompt)
    sure = jnp.pad(draft.sure, behind, constant_values=1.0)
    begun = _State(
        step=jnp.int32(0),
        draft=Draft(tokens, sure),
        written=Denoised(
            tokens=tokens,
            confidence=sure,
            fixed_at=jnp.ones(tokens.shape, jnp.int32),
            steps=jnp.zeros(rows, jnp.int32),
        ),
        start=jnp.full(rows, first - 1),
        done=~wanted,
        cache=said.cache,
    )

    def live(state: _State) -> jax.Array:
        return ~state.done & (state.step < how.steps)

    last = while_any(live, partial(_pass, denoiser, first, how), cross, begun)
    # What follows a text that has ended is nothing.
    there = (jnp.arange(tokens.shape[1]) <= last.start[:, None]) | ~last.done[:, None]
    found = last.written
    found = replace(found, tokens=jnp.where(there, found.tokens, vocabulary.end))
    texts = slice(first, first + how.length)
    return Denoised(
        found.tokens[:, None, texts],
        found.confidence[:, None, texts],
        found.fixed_at[:, None, texts],
        found.steps[:, None],
    ), said


def _pass(
    denoiser: Denoiser, prompt: int, how: Repairs, cross: CrossCache, state: _State
) -> _State:
    """Read what follows the text that stands, and repair it.

    Args:
        prompt: positions of the prompt.
    """
    end, size, limit = how.vocabulary.end, how.size, prompt + how.length
    tokens, before = state.draft.tokens, state.written
    hidden, cache = denoiser.stretch(
        tokens[:, None], state.start[:, None], size, prompt, limit, cross, state.cache,
        mended=False, masks=False,
    )  # fmt: skip
    index = jnp.arange(size)
    at = state.start[:, None] + 1 + index
    logits = how.vocabulary.allowed(denoiser.logits(hidden[:, 0]), first=at == prompt)
    window = _window(state.draft, at, logits, end)
    stop = jnp.argmax((window.own != window.tokens) | (index == size - 1), axis=1)[:, None]
    draft, confidence, fixed_at = _edited(state, window, _choose(window, stop, end))
    # What is too long loses its end, and gets another.
    draft = replace(draft, tokens=draft.tokens.at[:, limit - 1 :].set(end))
    ends = (window.own == end) & (index <= stop)
    stands = (index <= stop) & (jnp.cumsum(ends, 1) - ends == 0) & (at < limit)
    start = state.start + stands.sum(1)
    place = jnp.where(stands, at, tokens.shape[1])

    def stood(each: jax.Array, new: jax.Array) -> jax.Array:
        return jax.vmap(lambda row, at, new: row.at[at].set(new, mode="drop"))(each, place, new)

    draft = replace(draft, tokens=stood(draft.tokens, window.own))
    confidence = stood(confidence, jnp.exp(window.logprob))
    fixed_at = stood(fixed_at, jnp.broadcast_to(state.step + 1, stands.shape))

    # A row that is done stays as it is, whatever another batch's rounding would say.
    def going(new: jax.Array, old: jax.Array) -> jax.Array:
        return jnp.where(jnp.expand_dims(state.done, range(1, new.ndim)), old, new)

    return _State(
        step=state.step + 1,
        draft=jax.tree.map(going, draft, state.draft),
        written=Denoised(
            tokens=going(draft.tokens, before.tokens),
            confidence=going(confidence, before.confidence),
            fixed_at=going(fixed_at, before.fixed_at),
            steps=before.steps + ~state.done,
        ),
        start=going(start, state.start),
        done=state.done | (stands & ends).any(1) | (start == limit - 1),
        cache=cache,
    )


def _window(draft: Draft, at: jax.Array, logits: jax.Array, end: int) -> _Window:
    tokens, sure = (jnp.take_along_axis(each, at, axis=1) for each in (draft.tokens, draft.sure))
    own, logprob = likeliest(logits)
    near = jnp.take_along_axis(logits, _following(tokens, end), axis=-1)
    return _Window(
        tokens, sure, own, logprob, near - jax.nn.logsumexp(logits, axis=-1, keepdims=True)
    )


def _following(tokens: jax.Array, end: int) -> jax.Array:
    """[rows, n, _SKIPPED + 1]: each position's token, and the next ones."""
    behind = jnp.pad(tokens, ((0, 0), (0, _SKIPPED)), constant_values=end)
    n = tokens.shape[1]
    return jnp.stack([behind[:, k : k + n] for k in range(_SKIPPED + 1)], axis=-1)


_KEEP, _REPLACE, _PUT, _SKIP = 0, 1, 2, 2
"""What is done at a position; `_SKIP + k` leaves out k tokens."""


def _choose(window: _Window, stop: jax.Array, end: int) -> jax.Array:
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
    put = jnp.where(differs, window.logprob + jnp.where(ends, 0.0, right + _PUT_IN), -jnp.inf)
    follows = jnp.maximum(sure, _FOLLOWS * jnp.exp(near[..., 0]))
    # Of several that are left out, those behind the first may be Whisper's own.
    alone, among = (jnp.pad(each, ((0, 0), (0, _SKIPPED))) for each in (wrong, jnp.log1p(-follows)))
    over = jnp.pad(ends, ((0, 0), (0, _SKIPPED)), constant_values=True)
    costs, ended = jnp.zeros_like(wrong), jnp.zeros_like(ends)
    skipped = []
    for k in range(_SKIPPED):
        cost = (among if k else alone)[:, k : k + n] + _LEFT_OUT
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


def _edited(
    state: _State, window: _Window, choice: jax.Array
) -> tuple[Draft, jax.Array, jax.Array]:
    """The draft along the path that was chosen, the rest moved to its end.

    Returns:
        the new draft; each token's probability by Whisper; the pass that wrote it; all of
        [rows, positions].
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
    begin = state.start[:, None] + 1
    to = begin + jnp.cumsum(count, 1) - count
    written, before = state.written, state.draft
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
    kept = jnp.where(found, _FOUND, kept)
    sure = jnp.where(found, _FOUND, jnp.maximum(kept, _KEPT * window.sure))
    at = begin + jnp.arange(size)
    fixed_at = jnp.take_along_axis(written.fixed_at, at, axis=1)
    now = jnp.broadcast_to(state.step + 1, fixed_at.shape)
    return (
        Draft(
            put(before.tokens, window.tokens, window.own),
            put(before.sure, sure, _NEW * likely),
        ),
        put(written.confidence, kept, likely),
        put(written.fixed_at, fixed_at, now),
    )
