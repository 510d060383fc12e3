"""A draft repaired everywhere at once, in a few passes, without any training: our own.

One pass says what Whisper writes behind each beginning of the draft. The text as far as Whisper
agrees stands, and so does Whisper's own token behind it: as many passes as a text has tokens make
it Whisper's greedy one, *exactly*. What follows is repaired in the same pass (`decoding/edits.py`),
and is the next pass's draft. So mistakes are mended side by side, and a text that is cut short by
its passes ends as the draft does. What stands is read from a cache ever after.
"""

from dataclasses import dataclass, field, replace
from functools import partial

import jax
import jax.numpy as jnp

from whisfusion_jax.decoding import drafts
from whisfusion_jax.decoding.autoregressive import Start, read_but_last, read_start
from whisfusion_jax.decoding.denoising import FREE, Denoised
from whisfusion_jax.decoding.drafts import Draft
from whisfusion_jax.decoding.edits import Known, Prices, choose, edited, window_of
from whisfusion_jax.decoding.leaving import while_any
from whisfusion_jax.decoding.vocabulary import Vocabulary
from whisfusion_jax.models.decoder import Cache, CrossCache
from whisfusion_jax.models.denoiser import Denoiser


@dataclass(frozen=True)
class Repairs:
    """Shapes and settings; part of a compiled program's key."""

    vocabulary: Vocabulary
    length: int
    """Of the texts."""
    size: int
    """Positions that a pass reads."""
    steps: int | None
    """Passes at most; `length` is enough for any text; None is as many as a draft has tokens, its
    end among them (docs/results.md)."""
    prices: Prices = field(default_factory=Prices)


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
    most: jax.Array
    """[rows]: passes that each may take."""
    cache: Cache

    @property
    def live(self) -> jax.Array:
        """[rows] bool: what goes on."""
        return ~self.done & (self.step < self.most)


def repair(
    denoiser: Denoiser,
    cross: CrossCache,
    prompt: jax.Array,
    draft: Draft,
    how: Repairs,
    wanted: jax.Array,
    standing: jax.Array | None = None,
) -> tuple[Denoised, Start]:
    """Repair each row's draft.

    Args:
        denoiser: of the warm kind, which reads as Whisper's decoder does.
        cross: of the batch's audio.
        prompt: [batch, p] int32, as `read_start` takes it.
        draft: [batch, length].
        wanted: [batch] bool: False for what fills the batch up.
        standing: [batch, n] int32: tokens that the texts begin with, then FREE; None is none.

    Returns:
        one candidate each, and what the start token says.
    """
    (rows, first), vocabulary = prompt.shape, how.vocabulary
    empty = denoiser.empty_cache(rows, first + how.length + how.size)
    said = read_start(denoiser.read, denoiser.logits, empty, cross, prompt, vocabulary)
    said = read_but_last(denoiser.read, cross, said, vocabulary)
    most = _most(how, draft)
    begun, cache = jnp.zeros(rows, jnp.int32), said.cache
    if standing is not None:
        begun = (jnp.cumsum(standing == FREE, axis=1) == 0).sum(1)
        draft = _behind(standing, begun, draft, vocabulary.end)
        # What lies behind those that stand is read again before anything looks at it.
        reads = jnp.concatenate([said.prompt[:, -1:], draft.tokens[:, : standing.shape[1]]], axis=1)
        _, cache = denoiser.read(reads, cache, first - 1, cross)
    behind = ((0, 0), (first, how.size))
    # A text as long as its place loses its last token to its end.
    tokens = draft.tokens.at[:, -1].set(vocabulary.end)
    tokens = jnp.pad(tokens, behind, constant_values=vocabulary.end)
    tokens = tokens.at[:, :first].set(said.prompt)
    sure = jnp.pad(draft.sure, behind, constant_values=1.0)
    state = _State(
        step=jnp.int32(0),
        draft=Draft(tokens, sure),
        written=Denoised(
            tokens=tokens,
            confidence=sure,
            fixed_at=(jnp.arange(tokens.shape[1]) >= first + begun[:, None]).astype(jnp.int32),
            steps=jnp.zeros(rows, jnp.int32),
        ),
        start=first - 1 + begun,
        done=~wanted,
        most=most,
        cache=cache,
    )

    step = partial(_pass, denoiser, first, how)
    last = while_any(lambda state: state.live, step, cross, state)
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


def _behind(standing: jax.Array, count: jax.Array, draft: Draft, end: int) -> Draft:
    """What stands, and how the draft goes on behind it."""
    length = draft.tokens.shape[1]
    place = jnp.arange(length)
    distances = drafts.follow(drafts.start(draft.tokens), draft.tokens, standing, count)
    reached = drafts.reached(distances)
    stands = place < count[:, None]
    own = jnp.pad(standing, ((0, 0), (0, max(0, length - standing.shape[1]))))[:, :length]
    source = place - count[:, None] + reached[:, None]
    there = ~stands & (source < length)

    def follow(each: jax.Array, beyond: float) -> jax.Array:
        moved = jnp.take_along_axis(each, jnp.clip(source, 0, length - 1), axis=1)
        return jnp.where(there, moved, beyond)

    return Draft(jnp.where(stands, own, follow(draft.tokens, end)), follow(draft.sure, 1.0))


def _most(how: Repairs, draft: Draft) -> jax.Array:
    """[rows] int32: passes that each may take."""
    if how.steps is None:
        return (draft.tokens != how.vocabulary.end).sum(1) + 1
    return jnp.full(len(draft.tokens), how.steps)


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
    window = window_of(state.draft, at, logits, end)
    stop = jnp.argmax((window.own != window.tokens) | (index == size - 1), axis=1)[:, None]
    known = Known(state.draft, before.confidence, before.fixed_at)
    choice = choose(window, stop, end, how.prices)
    draft, confidence, fixed_at = edited(
        known, state.start + 1, window, choice, state.step + 1, how.prices
    )
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

    # What doesn't go on stays as it is, whatever its neighbours do.
    live = state.live

    def going(new: jax.Array, old: jax.Array) -> jax.Array:
        return jnp.where(jnp.expand_dims(live, range(1, new.ndim)), new, old)

    return _State(
        step=state.step + 1,
        draft=jax.tree.map(going, draft, state.draft),
        written=Denoised(
            tokens=going(draft.tokens, before.tokens),
            confidence=going(confidence, before.confidence),
            fixed_at=going(fixed_at, before.fixed_at),
            steps=before.steps + live,
        ),
        start=going(start, state.start),
        done=state.done | (live & ((stands & ends).any(1) | (start == limit - 1))),
        most=state.most,
        cache=cache,
    )
