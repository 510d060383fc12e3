"""A draft repaired everywhere at once, in a few passes, without any training: our own.

One pass says what Whisper writes behind each beginning of the draft. Where it disagrees, the
draft's token may stand all the same, be replaced by Whisper's, be pushed back by it, or be left out
with some that follow: what is likeliest together is found by dynamic programming, and is the next
pass's draft. Each place is mended while the others are; what follows a mistake is judged behind it,
so mistakes side by side take several passes. A text that a pass leaves as it is is Whisper's
greedy one.
"""

from dataclasses import dataclass
from typing import Self

import jax
import jax.numpy as jnp

from whisfusion_jax.decoding.denoising import Denoised
from whisfusion_jax.decoding.unmasking import Repair
from whisfusion_jax.decoding.vocabulary import Vocabulary, likeliest
from whisfusion_jax.models.decoder import CrossCache
from whisfusion_jax.models.denoiser import Denoiser

_SKIPPED = 3
"""Tokens that may be left out at one place."""
_PUT_IN, _REPLACED, _LEFT_OUT = -3.0, -0.5, 0.3
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


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _State:
    step: jax.Array
    draft: Draft
    written: Denoised
    """[rows, n], as all of it."""
    done: jax.Array
    """[rows]: the last pass changed nothing."""


def repair(
    denoiser: Denoiser,
    cross: CrossCache,
    prompt: jax.Array,
    draft: Draft,
    vocabulary: Vocabulary,
    rule: Repair,
    wanted: jax.Array,
) -> Denoised:
    """Repair each row's draft.

    Args:
        denoiser: of the warm kind, which reads as Whisper's decoder does.
        cross: of the batch's audio.
        prompt: [batch, p] int32, its language named.
        wanted: [batch] bool: False for what fills the batch up.

    Returns:
        one candidate each.
    """
    tokens = draft.tokens
    written = Denoised(
        tokens=tokens,
        confidence=draft.sure,
        fixed_at=jnp.ones(tokens.shape, jnp.int32),
        steps=jnp.zeros(len(tokens), jnp.int32),
    )

    def live(state: _State) -> jax.Array:
        return (state.step < rule.steps) & ~state.done.all()

    def step(state: _State) -> _State:
        return _pass(denoiser, cross, prompt, vocabulary, state)

    begun = _State(jnp.int32(0), draft, written, ~wanted)
    found = jax.lax.while_loop(live, step, begun).written
    return jax.tree.map(lambda each: each[:, None], found)


def _pass(
    denoiser: Denoiser,
    cross: CrossCache,
    prompt: jax.Array,
    vocabulary: Vocabulary,
    state: _State,
) -> _State:
    rows, n = state.draft.tokens.shape
    first = prompt.shape[1]
    whole = jnp.concatenate([prompt, state.draft.tokens[:, :-1]], axis=1)
    empty = denoiser.empty_cache(rows, whole.shape[1])
    hidden, _ = denoiser.read(whole, empty, 0, cross)
    logits = denoiser.logits(hidden[:, first - 1 :])
    logits = vocabulary.allowed(logits, first=jnp.arange(n) == 0)
    own, logprob = likeliest(logits)
    normaliser = jax.nn.logsumexp(logits, axis=-1, keepdims=True)
    following = _following(state.draft.tokens, vocabulary.end)
    near = jnp.take_along_axis(logits, following, axis=-1) - normaliser
    choice = _choose(state.draft, own, logprob, near, vocabulary.end)
    new, confidence, came_from = _edited(state.draft, own, logprob, near, choice, vocabulary.end)
    # A row that is done stays as it is, whatever another batch's rounding would say.
    done, before = state.done[:, None], state.written
    same = (new.tokens == state.draft.tokens).all(1)
    fixed_at = jnp.take_along_axis(before.fixed_at, jnp.maximum(came_from, 0), axis=1)
    fixed_at = jnp.where(came_from < 0, state.step + 1, fixed_at)
    return _State(
        step=state.step + 1,
        draft=jax.tree.map(lambda a, b: jnp.where(done, a, b), state.draft, new),
        written=Denoised(
            tokens=jnp.where(done, before.tokens, new.tokens),
            confidence=jnp.where(done, before.confidence, confidence),
            fixed_at=jnp.where(done, before.fixed_at, fixed_at),
            steps=before.steps + ~state.done,
        ),
        done=state.done | same,
    )


def _following(tokens: jax.Array, end: int) -> jax.Array:
    """[rows, n, _SKIPPED + 1]: each position's token, and the next ones."""
    behind = jnp.pad(tokens, ((0, 0), (0, _SKIPPED)), constant_values=end)
    n = tokens.shape[1]
    return jnp.stack([behind[:, k : k + n] for k in range(_SKIPPED + 1)], axis=-1)


_KEEP, _REPLACE, _PUT, _SKIP = 0, 1, 2, 2
"""What is done at a position; `_SKIP + k` leaves out k tokens."""


def _choose(
    draft: Draft, own: jax.Array, logprob: jax.Array, near: jax.Array, end: int
) -> jax.Array:
    """What to do at each position, if a path comes there: [rows, n] int32.

    Args:
        own, logprob: [rows, n]: Whisper's likeliest token behind each beginning.
        near: [rows, n, _SKIPPED + 1]: its log-probabilities of the draft's token and the next ones.
    """
    tokens = draft.tokens
    ends = tokens == end
    sure = jnp.clip(draft.sure, _LEAST, 1 - _LEAST)
    wrong, right = jnp.log1p(-sure), jnp.log(sure)
    differs = (own != tokens) & (own != end)
    replaced = jnp.where(differs & ~ends, logprob + wrong + _REPLACED, -jnp.inf)
    # The end is no word that is heard: what Whisper finds likelier comes before it.
    put = jnp.where(differs, logprob + jnp.where(ends, 0.0, right + _PUT_IN), -jnp.inf)
    follows = jnp.maximum(sure, _FOLLOWS * jnp.exp(near[..., 0]))
    # Of several that are left out, those behind the first may be Whisper's own.
    alone, among = (jnp.pad(each, ((0, 0), (0, _SKIPPED))) for each in (wrong, jnp.log1p(-follows)))
    over = jnp.pad(ends, ((0, 0), (0, _SKIPPED)), constant_values=True)
    n = tokens.shape[1]
    costs, ended = jnp.zeros_like(wrong), jnp.zeros_like(ends)
    skipped = []
    for k in range(_SKIPPED):
        cost = (among if k else alone)[:, k : k + n] + _LEFT_OUT
        costs, ended = costs + cost, ended | over[:, k : k + n]
        skipped.append(jnp.where(ended, -jnp.inf, costs + near[..., k + 1]))
    scores = jnp.stack([near[..., 0], replaced, put, *skipped], axis=-1)

    def best(after: jax.Array, score: jax.Array) -> tuple[jax.Array, jax.Array]:
        # after: [rows, _SKIPPED + 1], of the paths from the next positions on
        whole = score + jnp.concatenate([after[:, :1], after[:, :1], after], axis=1)
        value = jnp.concatenate([whole.max(1)[:, None], after[:, :-1]], axis=1)
        return value, whole.argmax(1).astype(jnp.int32)

    # Behind the end token nothing is left to do, nor to gain.
    through = jnp.cumsum(ends, 1) - ends == 0
    nothing = jnp.zeros_like(scores[0, 0]).at[1:].set(-jnp.inf)
    scores = jnp.where(through[..., None], scores, nothing)
    start = jnp.zeros((len(tokens), _SKIPPED + 1))
    _, choice = jax.lax.scan(best, start, jnp.moveaxis(scores, 1, 0), reverse=True)
    return choice.T


def _edited(
    draft: Draft,
    own: jax.Array,
    logprob: jax.Array,
    near: jax.Array,
    choice: jax.Array,
    end: int,
) -> tuple[Draft, jax.Array, jax.Array]:
    """The draft along the path that was chosen.

    Returns:
        the new draft; each token's probability by Whisper; where it stood before, or -1.
    """
    rows, n = draft.tokens.shape

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
    to = jnp.cumsum(count, 1) - count
    likely, kept = jnp.exp(logprob), jnp.exp(near[..., 0])
    # Whisper names it behind what was left out, not behind the token before it.
    kept = jnp.where(found, _FOUND, kept)
    sure = jnp.where(found, _FOUND, jnp.maximum(kept, _KEPT * draft.sure))

    def put(old: jax.Array, new: jax.Array, blank: float) -> jax.Array:
        """Both kinds of tokens at their places, a fresh one before one that stands."""

        def row(
            to: jax.Array, fresh: jax.Array, stands: jax.Array, old: jax.Array, new: jax.Array
        ) -> jax.Array:
            filled = jnp.full(n, blank, old.dtype)
            filled = filled.at[jnp.where(fresh, to, n)].set(new, mode="drop")
            return filled.at[jnp.where(stands, to + fresh, n)].set(old, mode="drop")

        return jax.vmap(row)(to, fresh, stands, old, new.astype(old.dtype))

    tokens = put(draft.tokens, own, end)
    # What is too long loses its end, and gets another.
    tokens = tokens.at[:, -1].set(end)
    at = jnp.broadcast_to(jnp.arange(n), draft.tokens.shape)
    return (
        Draft(tokens, put(sure, _NEW * likely, 1.0)),
        put(kept, likely, 1.0),
        put(at, jnp.full_like(at, -1), n - 1),
    )
