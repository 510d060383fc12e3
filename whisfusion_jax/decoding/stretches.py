"""Masked-diffusion decoding a stretch at a time: the pass that writes on verifies what was written.

A stretch begins at the last token that stands. Behind it are tokens that were written ahead, by
masks or by a draft of the whole text, and then masks. One pass says what Whisper itself, which
looks back only, writes behind each token: those ahead stand as far as it agrees (how far it must is
the rule's `revise`), and so does its own token at the first mask or disagreement. If it agrees to
all, the rule writes ahead what the masks say. What stands is read from a cache ever after.

At `revise` 1, without adapters where Whisper reads, the text is Whisper's greedy one, token by
token: *exact* decoding. So draft and verification are one pass (in speculative decoding, arXiv
2211.17192, and its kin, Medusa and EAGLE among them, the drafts cost passes or heads of their own).
"""

from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp

from whisfusion_jax.decoding import drafts
from whisfusion_jax.decoding.autoregressive import Start, read_but_last, read_start
from whisfusion_jax.decoding.denoising import (
    FREE,
    Denoised,
    DenoisingSettings,
    Draws,
    doubts,
    entropy,
    first_true,
    predict,
    probability,
)
from whisfusion_jax.decoding.leaving import while_any
from whisfusion_jax.decoding.unmasking import Written
from whisfusion_jax.models.decoder import Cache, CrossCache
from whisfusion_jax.models.denoiser import Denoiser


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _State:
    step: jax.Array
    masked: jax.Array
    """[rows, positions], as all of `written`: prompt, canvas, and a stretch more."""
    written: Denoised
    start: jax.Array
    """[rows]: the last position that stands, where the next stretch begins."""
    done: jax.Array
    """[rows]: the text has ended."""
    distances: jax.Array | None
    """[rows, draft + 1]: of the text that stands to the draft (`decoding/drafts.py`)."""
    cache: Cache


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _Rows:
    """What steps read and don't change."""

    cross: CrossCache
    draft: jax.Array | None
    """[rows, draft] int32."""
    own: Draws


@dataclass(frozen=True)
class Stretches:
    """Shapes and settings; a compiled program's key."""

    settings: DenoisingSettings
    length: int
    """Of the canvases."""
    size: int
    """Positions that a step reads."""
    mended: bool = True
    """Whether the text's first token is named by the prompt's end with its adapters; else Whisper
    names it."""


@partial(jax.jit, static_argnames="how")
def denoise_by_stretches(
    denoiser: Denoiser,
    cross: CrossCache,
    prompt: jax.Array,
    draws: Draws,
    how: Stretches,
    draft: jax.Array | None = None,
    wanted: jax.Array | None = None,
    standing: jax.Array | None = None,
) -> tuple[Denoised, Start]:
    """Fill a canvas for every utterance, by a rule that stops early.

    Args:
        denoiser: of the warm kind.
        cross: of the batch's audio.
        prompt: [batch, p] int32, as `read_prompt` takes it.
        draws: [batch], each utterance's own.
        draft: [batch, n] int32, see `decoding/drafts.py`; None is without.
        wanted: [batch] bool: False for what fills the batch up; None for all.
        standing: [batch, length] int32: tokens that the texts begin with, then FREE; None is none.
    """
    batch, first = prompt.shape
    settings, vocabulary = how.settings, how.settings.vocabulary
    rows, end = batch * settings.candidates, first + how.length
    positions = end + how.size
    empty = denoiser.empty_cache(batch, positions)
    said = read_start(denoiser.read, denoiser.logits, empty, cross, prompt, vocabulary)
    said = read_but_last(denoiser.read, cross, said, vocabulary)
    spread = partial(jnp.repeat, repeats=settings.candidates, axis=0)
    # Candidates that are to differ have no use for what all would draft.
    draft = None if settings.candidates > 1 else draft
    tokens = jnp.full((rows, positions), vocabulary.end).at[:, :first].set(spread(said.prompt))
    where = jnp.arange(positions)
    masked = jnp.broadcast_to(where >= first, tokens.shape)
    begun = _State(
        step=jnp.int32(0),
        masked=masked,
        written=Denoised(
            tokens=tokens,
            confidence=jnp.where(masked, 0.0, 1.0),
            fixed_at=jnp.zeros(tokens.shape, jnp.int32),
            steps=jnp.zeros(rows, jnp.int32),
        ),
        start=jnp.full(rows, first - 1),
        done=jnp.zeros(rows, bool) if wanted is None else spread(~wanted),
        distances=None if draft is None else drafts.start(draft),
        cache=jax.tree.map(spread, said.cache),
    )
    reads = _Rows(cross, draft, draws.of_candidates(settings.candidates))
    if standing is not None:
        begun = _begun(denoiser, first, reads, begun, spread(standing))
    if how.mended:
        begun = _named(denoiser, first, how, reads, begun)
    step = partial(_step, denoiser, first, how)

    def live(state: _State) -> jax.Array:
        return ~state.done.reshape(-1, settings.candidates).all(1)

    last = while_any(live, step, reads, begun)
    standing = jnp.where(where <= last.start[:, None], last.written.tokens, vocabulary.end)

    def canvas(each: jax.Array) -> jax.Array:
        return each[:, first:end].reshape(batch, settings.candidates, -1)

    found = Denoised(
        canvas(standing),
        canvas(last.written.confidence),
        canvas(last.written.fixed_at),
        last.written.steps.reshape(batch, -1),
    )
    return found, said


def _begun(
    denoiser: Denoiser, prompt: int, rows: _Rows, state: _State, standing: jax.Array
) -> _State:
    """With the tokens that stand already, read at once."""
    written, length = state.written, standing.shape[1]
    there = jnp.cumsum(standing == FREE, axis=1) == 0
    count, canvas = there.sum(1), slice(prompt, prompt + length)
    tokens = written.tokens.at[:, canvas].set(jnp.where(there, standing, written.tokens[:, canvas]))
    # What lies behind them is read again before anything looks at it.
    reads = tokens[:, prompt - 1 : prompt + length - 1]
    _, cache = denoiser.read(reads, state.cache, prompt - 1, rows.cross)
    distances = state.distances
    if rows.draft is not None and distances is not None:
        distances = drafts.follow(distances, rows.draft, standing, count)
    return replace(
        state,
        masked=state.masked.at[:, canvas].set(~there),
        written=replace(
            written,
            tokens=tokens,
            confidence=written.confidence.at[:, canvas].set(jnp.where(there, 1.0, 0.0)),
        ),
        start=state.start + count,
        distances=distances,
        cache=cache,
    )


def _named(denoiser: Denoiser, prompt: int, how: Stretches, rows: _Rows, state: _State) -> _State:
    """The text's first token, by the prompt's end with its adapters.

    Nothing else sees these: the first stretch reads the prompt's end once more, as Whisper does.
    """
    settings, written = how.settings, state.written
    canvas, start = (
        each.reshape(-1, settings.candidates, *each.shape[1:])
        for each in (written.tokens, state.start)
    )
    hidden, _ = denoiser.stretch(
        canvas, start, 1, prompt, prompt + 1, rows.cross, state.cache, mended=True
    )
    logits = settings.vocabulary.allowed(denoiser.logits(hidden), first=True)
    token = predict(logits, rows.own.of_step(state.step)[0], settings)
    sure, token = probability(logits, token).ravel(), token.ravel()
    # Texts that are begun have theirs.
    names = state.start == prompt - 1
    ends = names & (token == settings.vocabulary.end)

    def put(each: jax.Array, first: jax.Array | int) -> jax.Array:
        return each.at[:, prompt].set(jnp.where(names, first, each[:, prompt]))

    return replace(
        state,
        step=state.step + 1,
        masked=state.masked.at[:, prompt].set(False),
        written=Denoised(
            tokens=put(written.tokens, token),
            confidence=put(written.confidence, sure),
            fixed_at=put(written.fixed_at, 1),
            steps=written.steps + names,
        ),
        start=state.start + ends,
        done=state.done | ends,
    )


def _step(denoiser: Denoiser, prompt: int, how: Stretches, rows: _Rows, state: _State) -> _State:
    """One pass over each row's stretch: draft, verify, write on, write ahead.

    Args:
        prompt: positions of the prompt.
    """
    if rows.draft is not None and state.distances is not None:
        state = _drafted(state, rows.draft, state.distances, how.size)
    settings, size, before = how.settings, how.size, state.written
    candidates, total = settings.candidates, before.tokens.shape[-1]
    end, limit = settings.vocabulary.end, total - size

    def by_audio(each: jax.Array) -> jax.Array:
        return each.reshape(-1, candidates, *each.shape[1:])

    tokens = jnp.where(state.masked, denoiser.mask_token, before.tokens)
    hidden, cache = denoiser.stretch(
        by_audio(tokens), by_audio(state.start), size, prompt, limit, rows.cross, state.cache,
        mended=False, masks=settings.rule.ahead,
    )  # fmt: skip
    # Output i is for the position at[i], one ahead.
    index = jnp.arange(size)
    at = state.start[:, None] + 1 + index
    sampling, ruling = rows.own.of_step(state.step)
    logits = settings.vocabulary.allowed(denoiser.logits(hidden), first=by_audio(at == prompt))
    token = predict(logits, sampling, settings).reshape(-1, size)
    logits = logits.reshape(*token.shape, -1)

    there = jnp.take_along_axis(before.tokens, at, axis=-1)
    asked = jnp.take_along_axis(state.masked, at, axis=-1)
    # What the prompt's adapters have named stands, whatever Whisper says.
    doubted = doubts(logits, there, settings) & ~((at == prompt) & how.mended)
    stop = first_true(asked | doubted)[:, None]
    # Those ahead that stand, Whisper's own token behind them, and what masks say.
    token = jnp.where(index < stop, there, token)
    confidence = probability(logits, token)
    ends = (token == end) & (index <= stop)
    stands = (index <= stop) & (jnp.cumsum(ends, -1) - ends == 0)
    stands &= (at < limit) & ~state.done[:, None]
    count = stands.sum(-1)
    done = state.done | (stands & ends).any(-1) | (state.start + count == limit - 1)

    goes_on = jnp.take_along_axis(asked, stop, axis=-1) & ~done[:, None]
    ahead = jnp.zeros_like(stands)
    if settings.rule.ahead:
        # The last output is for a position behind the stretch, which the others don't see.
        may = asked & (index < size - 1) & goes_on
        every = jnp.ones_like(stands)
        written = Written(
            free=every, masked=may, live=every, confidence=confidence,
            entropy=entropy(logits), keys=ruling.keys.ravel(),
        )  # fmt: skip
        ahead = may & ~stands & ~settings.rule.remask(state.step, written)

    # From stretches to canvases.
    where = jnp.arange(total)
    source = jnp.clip(where - at[:, :1], 0, size - 1)
    reached = (where >= at[:, :1]) & (where < at[:, :1] + size)

    def spread(each: jax.Array) -> jax.Array:
        return jnp.take_along_axis(each, source, axis=-1)

    stood, fresh = spread(stands) & reached, spread(stands | ahead) & reached
    named = (where == prompt) & how.mended
    start = state.start + count
    # What was written ahead stays for now where all was agreed to, and there alone.
    kept = ~state.masked & goes_on
    distances = state.distances
    if rows.draft is not None and distances is not None:
        distances = drafts.follow(distances, rows.draft, token, count)
    return _State(
        step=state.step + 1,
        masked=(where > start[:, None]) & ~(spread(ahead) & reached) & ~kept,
        written=Denoised(
            tokens=jnp.where(fresh, spread(token), before.tokens),
            confidence=jnp.where(fresh & ~named, spread(confidence), before.confidence),
            fixed_at=jnp.where(stood & ~named, state.step + 1, before.fixed_at),
            steps=before.steps + ~state.done,
        ),
        start=jnp.where(state.done, state.start, start),
        done=done,
        distances=distances,
        cache=cache,
    )


def _drafted(state: _State, draft: jax.Array, distances: jax.Array, size: int) -> _State:
    """The rest of the next stretch filled from the draft, as far as that goes."""
    at = state.start[:, None] + 1 + jnp.arange(size - 1)
    asked = jnp.take_along_axis(state.masked, at, axis=-1)
    tokens = jnp.take_along_axis(state.written.tokens, at, axis=-1)
    first = first_true(asked)
    # Behind what is written ahead, as if it stood.
    following = drafts.rest(drafts.follow(distances, draft, tokens, first), draft, size - 1)
    source = jnp.arange(size - 1) - first[:, None]
    following = jnp.take_along_axis(following, jnp.maximum(source, 0), axis=-1)
    refused = (source >= 0) & ((following == drafts.UNKNOWN) | ~asked)
    filled = (source >= 0) & (jnp.cumsum(refused, -1) == 0)

    put = jax.vmap(lambda row, at, new: row.at[at].set(new, unique_indices=True))
    tokens = put(state.written.tokens, at, jnp.where(filled, following, tokens))
    written = replace(state.written, tokens=tokens)
    return replace(state, masked=put(state.masked, at, asked & ~filled), written=written)
