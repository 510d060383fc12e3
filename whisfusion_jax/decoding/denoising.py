"""Masked-diffusion decoding: all tokens of a canvas at once, in a few steps, in a compiled loop."""

import math
from dataclasses import dataclass, field, replace
from functools import partial

import jax
import jax.numpy as jnp

from whisfusion_jax.decoding.drafts import UNKNOWN
from whisfusion_jax.decoding.leaving import while_any
from whisfusion_jax.decoding.unmasking import PositionBiased, UnmaskingRule, Written
from whisfusion_jax.decoding.vocabulary import Vocabulary
from whisfusion_jax.errors import WhisfusionError
from whisfusion_jax.models.decoder import CrossCache
from whisfusion_jax.models.denoiser import Denoiser
from whisfusion_jax.models.output import arg_max

FREE = -1
"""In a row of given tokens: the model writes this one."""


@dataclass(frozen=True)
class DenoisingSettings:
    """What a compiled loop depends on beside shapes."""

    vocabulary: Vocabulary
    rule: UnmaskingRule = field(default_factory=PositionBiased)
    candidates: int = 1
    """Canvases for each utterance (Parallel Diffusion Decoding)."""
    temperature: float = 0.0
    """Of the sampling by which candidates but the first differ; 0 takes the likeliest."""

    def __post_init__(self) -> None:
        if self.candidates < 1:
            raise WhisfusionError(f"{self.candidates} candidates: at least 1 is needed")
        if self.temperature < 0:
            raise WhisfusionError(f"temperature {self.temperature} is below 0")


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Draws:
    """Where random numbers come from: utterances, or their candidates."""

    keys: jax.Array
    """[batch], or [batch, candidates]."""
    number: jax.Array
    """Likewise, int32: the first candidate's number, or each one's. Number 0 samples nothing."""

    def of_candidates(self, candidates: int) -> "Draws":
        """Of so many candidates of each utterance, from its first one on."""
        number = self.number[:, None] + jnp.arange(candidates)
        fold = jax.vmap(jax.vmap(jax.random.fold_in, (None, 0)))
        return Draws(fold(self.keys, number), number)

    def of_step(self, step: jax.Array) -> tuple["Draws", "Draws"]:
        """Of candidates in one step: for sampling, and for the rule."""
        split = jax.vmap(jax.vmap(lambda key: jax.random.split(jax.random.fold_in(key, step))))
        keys = split(self.keys)
        return Draws(keys[..., 0], self.number), Draws(keys[..., 1], self.number)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Denoised:
    """What denoising writes; on the device until the end."""

    tokens: jax.Array
    """[batch, candidates, n] int32: the text, then end tokens."""
    confidence: jax.Array
    """[batch, candidates, n] float32: each token's probability when it was written; 1 if given."""
    fixed_at: jax.Array
    """[batch, candidates, n] int32: the step, from 1, that wrote each token; 0 if given."""
    steps: jax.Array
    """[batch, candidates] int32: steps until nothing was masked."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _State:
    step: jax.Array
    masked: jax.Array
    """[batch, candidates, n]: asked for in this step."""
    frontier: jax.Array
    """[batch, candidates]: the first mask of the step before."""
    written: Denoised


@partial(jax.jit, static_argnames="settings")
def denoise(
    denoiser: Denoiser,
    cross: CrossCache,
    prompt: jax.Array,
    given: jax.Array,
    draws: Draws,
    settings: DenoisingSettings,
    draft: jax.Array | None = None,
) -> Denoised:
    """Fill a canvas for every utterance.

    Rows don't touch each other: an utterance's text depends on its audio, prompt and key alone.

    Args:
        cross: of the batch's audio.
        prompt: [batch, p] int32.
        given: [batch, n] int32: tokens that stand from the start and never change, FREE elsewhere.
        draws: [batch], each utterance's own.
        draft: [batch, n] int32: what else stands at first, UNKNOWN where nothing does; rules that
            rewrite may change it.
    """
    free = jnp.broadcast_to(
        (given == FREE)[:, None], (given.shape[0], settings.candidates, given.shape[1])
    )
    own = draws.of_candidates(settings.candidates)
    rows = prompt, cross, free, own
    step = partial(_denoise_step, denoiser, settings)

    whole = jnp.broadcast_to(given[:, None], free.shape)
    empty = Denoised(
        tokens=jnp.where(free, settings.vocabulary.end, whole),
        confidence=jnp.where(free, 0.0, 1.0),
        fixed_at=jnp.zeros(free.shape, jnp.int32),
        steps=jnp.zeros(free.shape[:2], jnp.int32),
    )
    masked = free
    if draft is not None:
        known = (draft != UNKNOWN)[:, None] & free
        masked = free & ~known
        empty = replace(empty, tokens=jnp.where(known, draft[:, None], empty.tokens))
    first = step(rows, _State(jnp.int32(0), masked, empty.steps, empty), alike=True)
    if settings.rule.stops_early:

        def live(state: _State) -> jax.Array:
            return state.masked.any((1, 2)) & (state.step < settings.rule.steps)

        last = while_any(live, step, rows, first)
    else:
        last = jax.lax.fori_loop(1, settings.rule.steps, lambda _, state: step(rows, state), first)
    return last.written


def _denoise_step(
    denoiser: Denoiser,
    settings: DenoisingSettings,
    rows: tuple[jax.Array, CrossCache, jax.Array, Draws],
    state: _State,
    alike: bool = False,
) -> _State:
    """One pass of the denoiser and one unmasking.

    Args:
        rows: prompts, [batch, p]; the audio; [batch, candidates, n], True where the model writes;
            draws, [batch, candidates].
        alike: all candidates are still the same, so one pass serves them all.
    """
    prompt, cross, free, own = rows
    before, n = state.written, free.shape[-1]
    canvas = jnp.where(state.masked, denoiser.mask_token, before.tokens)
    hidden = denoiser(prompt, canvas[:, :1] if alike else canvas, cross)
    logits = settings.vocabulary.allowed(denoiser.logits(hidden), first=jnp.arange(n) == 0)
    sampling, ruling = own.of_step(state.step)
    token = predict(logits, sampling, settings)

    rule, index = settings.rule, jnp.arange(n)
    # What is drafted is read once in any case.
    reads = state.masked.any(-1) | (rule.rewrites and (alike or not rule.stops_early))
    fresh = free & reads[..., None] if rule.rewrites else state.masked
    # A row that is done looks at nothing again, however long its neighbours take.
    frontier = jnp.where(state.masked.any(-1), first_true(state.masked), state.frontier)
    revises = settings.rule.revise > 0 and not denoiser.both_ways and not alike
    if revises:
        ahead = free & (index > state.frontier[..., None]) & (index < frontier[..., None])
        doubted = first_true(ahead & doubts(logits, before.tokens, settings))[..., None]
        fresh = fresh | (index == doubted)
    tokens = jnp.where(fresh, token, before.tokens)
    confidence = jnp.where(fresh, probability(logits, token), before.confidence)
    ends = tokens == settings.vocabulary.end
    if rule.rewrites:
        # What was written behind the end is none of the text.
        tokens = jnp.where(free & (jnp.cumsum(ends, -1) > 0), settings.vocabulary.end, tokens)
        ends = tokens == settings.vocabulary.end
    flat = partial(jnp.reshape, shape=(-1, tokens.shape[-1]))
    written = Written(
        free=flat(free),
        masked=flat(state.masked),
        live=flat(jnp.cumsum(ends, -1) - ends == 0),
        confidence=flat(confidence),
        entropy=flat(jnp.broadcast_to(entropy(logits), token.shape)),
        keys=ruling.keys.ravel(),
    )
    masked = settings.rule.remask(state.step, written).reshape(tokens.shape)
    if revises:
        masked = jnp.where(doubted < index.size, free & (index > doubted), masked)
    # Behind an end token that stands, nothing is left to ask.
    stands = ends & ~masked
    behind = (jnp.cumsum(stands, -1) - stands > 0) & free
    return _State(
        step=state.step + 1,
        masked=masked & ~behind,
        frontier=frontier,
        written=Denoised(
            tokens=jnp.where(behind & masked, settings.vocabulary.end, tokens),
            confidence=confidence,
            fixed_at=jnp.where(fresh, state.step + 1, before.fixed_at),
            steps=before.steps + reads,
        ),
    )


def doubts(logits: jax.Array, tokens: jax.Array, settings: DenoisingSettings) -> jax.Array:
    """Where a token is too much less likely than the likeliest (`UnmaskingRule.revise`).

    Args:
        logits: [..., n, vocabulary].
        tokens: [..., n].
    """
    revise = settings.rule.revise
    if not revise:
        return jnp.zeros(tokens.shape, bool)
    if revise == 1:
        return tokens != arg_max(logits)
    return _at(logits, tokens) - logits.max(-1) < math.log(revise)


def first_true(each: jax.Array) -> jax.Array:
    """[..., n] bool to the first true one's index; n where none is."""
    return jnp.where(each.any(-1), each.argmax(-1), each.shape[-1])


def predict(logits: jax.Array, own: Draws, settings: DenoisingSettings) -> jax.Array:
    """The tokens to write: the likeliest, or drawn.

    Args:
        logits: [batch, 1 or candidates, n, vocabulary] float32.
        own: [batch, candidates].

    Returns:
        [batch, candidates, n] int32.
    """
    token = arg_max(logits)
    if settings.temperature:

        def sample(key: jax.Array, row: jax.Array) -> jax.Array:
            return jax.random.categorical(key, row / settings.temperature)

        every = jnp.broadcast_to(logits, (*own.keys.shape, *logits.shape[2:]))
        sampled = jax.vmap(jax.vmap(sample))(own.keys, every)
        token = jnp.where(own.number[..., None] == 0, token, sampled)
    return jnp.broadcast_to(token, (*own.keys.shape, logits.shape[2])).astype(jnp.int32)


def probability(logits: jax.Array, tokens: jax.Array) -> jax.Array:
    """Of some tokens, [..., n], by logits [..., n, vocabulary] (of all candidates, perhaps)."""
    every = jnp.broadcast_to(logits, (*tokens.shape, logits.shape[-1]))
    return jnp.exp(_at(every, tokens) - jax.nn.logsumexp(logits, axis=-1))


def entropy(logits: jax.Array) -> jax.Array:
    """In nats: [..., vocabulary] to [...]."""
    logprobs = jax.nn.log_softmax(logits)
    return -jnp.where(logprobs > -jnp.inf, jnp.exp(logprobs) * logprobs, 0.0).sum(-1)


def _at(logits: jax.Array, tokens: jax.Array) -> jax.Array:
    return jnp.take_along_axis(logits, tokens[..., None], axis=-1)[..., 0]
