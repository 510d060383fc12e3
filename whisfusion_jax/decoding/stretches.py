"""Masked-diffusion decoding a stretch at a time: what stands before is read from a cache.

For rules that keep what they wrote, nearly left to right, a whole canvas is wasteful: what is known
up to the first mask no longer changes, once it has been looked at again, and what is far behind it
is not yet sure. So each step asks for a stretch that moves along. On a warm denoiser that is the
same as the whole canvas with the far positions left masked (`Denoiser.stretch`), at a fraction of
the cost.
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp

from whisfusion_jax.decoding.denoising import (
    Denoised,
    DenoisingSettings,
    Draws,
    doubts,
    first_true,
    predict,
)
from whisfusion_jax.decoding.leaving import while_any
from whisfusion_jax.decoding.unmasking import Written
from whisfusion_jax.models.decoder import Cache, CrossCache
from whisfusion_jax.models.denoiser import Denoiser
from whisfusion_jax.models.encoder import AudioStates


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _State:
    step: jax.Array
    masked: jax.Array
    """[batch, candidates, positions], as all of `written`: prompt, canvas, and a stretch more."""
    written: Denoised
    start: jax.Array
    """[batch, candidates]: where the next stretch begins."""
    cache: Cache


@partial(jax.jit, static_argnames=("length", "stretch", "settings"))
def denoise_by_stretches(
    denoiser: Denoiser,
    audio: AudioStates,
    prompt: jax.Array,
    draws: Draws,
    length: int,
    stretch: int,
    settings: DenoisingSettings,
) -> Denoised:
    """Fill a canvas for every utterance, by a rule that stops early.

    Args:
        denoiser: of the warm kind.
        audio: [batch, positions, width].
        prompt: [batch, p] int32.
        draws: [batch], each utterance's own.
        length: of the canvases, n.
        stretch: positions that a step reads, more than the prompt's; what the rule sees.
    """
    batch, first = prompt.shape
    rows = (batch, settings.candidates)
    cross = denoiser.cross_cache(audio)
    positions = first + length + stretch
    filled = jnp.full((*rows, positions), settings.end).at[..., :first].set(prompt[:, None])
    where = jnp.arange(positions)
    inside = jnp.broadcast_to((where >= first) & (where < first + length), filled.shape)
    start = _State(
        step=jnp.int32(0),
        masked=inside,
        written=Denoised(
            tokens=filled,
            confidence=jnp.where(inside, 0.0, 1.0),
            fixed_at=jnp.zeros(filled.shape, jnp.int32),
            steps=jnp.zeros(rows, jnp.int32),
        ),
        start=jnp.zeros(rows, jnp.int32),
        cache=denoiser.empty_cache(batch * settings.candidates, positions),
    )
    own = draws.of_candidates(settings.candidates)
    step = partial(_step, denoiser, first, stretch, settings)

    def live(state: _State) -> jax.Array:
        return state.masked.any((1, 2)) & (state.step < settings.rule.steps)

    written = while_any(live, step, (cross, inside, own), start).written
    canvas = partial(jax.lax.slice_in_dim, start_index=first, limit_index=first + length, axis=2)
    return Denoised(
        canvas(written.tokens), canvas(written.confidence), canvas(written.fixed_at), written.steps
    )


def _step(
    denoiser: Denoiser,
    prompt: int,
    stretch: int,
    settings: DenoisingSettings,
    rows: tuple[CrossCache, jax.Array, Draws],
    state: _State,
) -> _State:
    """One pass over each row's stretch and one unmasking.

    Args:
        prompt: positions of the prompt.
        rows: the audio; [batch, candidates, positions], True on the canvas; draws, [batch,
            candidates].
    """
    cross, inside, own = rows
    before, end = state.written, settings.end
    tokens = jnp.where(state.masked, denoiser.mask_token, before.tokens)
    behind_canvas = inside.shape[-1] - stretch
    hidden, cache = denoiser.stretch(
        tokens, state.start, stretch, prompt, behind_canvas, cross, state.cache
    )
    logits = denoiser.logits(hidden)
    sampling, ruling = own.of_step(state.step)
    token, confidence, entropy = predict(logits, sampling, settings)

    # Output i is for the position at[i], one ahead.
    at = state.start[..., None] + 1 + jnp.arange(stretch)
    frontier = jnp.where(state.masked.any(-1), state.masked.argmax(-1), state.start + 1)
    # The last one is behind the stretch, and unseen by the others: asked only if it must be.
    seen = (jnp.arange(stretch) < stretch - 1) | (at == frontier[..., None])
    asked = jnp.take_along_axis(state.masked, at, axis=-1) & seen
    flat = partial(jnp.reshape, shape=(-1, stretch))
    written = Written(
        free=flat(jnp.ones_like(asked)),
        masked=flat(asked),
        live=flat(jnp.ones_like(asked)),
        confidence=flat(confidence),
        entropy=flat(entropy),
        keys=ruling.keys.ravel(),
    )
    fixed = asked & ~settings.rule.remask(state.step, written).reshape(asked.shape)
    revised = jnp.full(state.start.shape, inside.shape[-1])
    if settings.rule.revise:
        # What the last step wrote ahead of its first mask, now that all before it is known.
        ahead = (jnp.arange(stretch) > 0) & (at < frontier[..., None])
        tokens_there = jnp.take_along_axis(before.tokens, at, axis=-1)
        doubted = first_true(ahead & doubts(logits, tokens_there, settings))
        revised = jnp.where(doubted < stretch, state.start + 1 + doubted, revised)
        alone = jnp.arange(stretch) == doubted[..., None]
        fixed = jnp.where(doubted[..., None] < stretch, alone, fixed)

    # From stretches to canvases.
    where = jnp.arange(inside.shape[-1])
    source = where - at[..., :1]
    reached = (source >= 0) & (source < stretch)
    source = jnp.clip(source, 0, stretch - 1)
    fixed = jnp.take_along_axis(fixed, source, axis=-1) & reached

    def update(old: jax.Array, new: jax.Array) -> jax.Array:
        return jnp.where(fixed, jnp.take_along_axis(new, source, axis=-1), old)

    masked = (state.masked | (inside & (where > revised[..., None]))) & ~fixed
    tokens = update(before.tokens, token)
    # Behind an end token that stands, nothing is left to ask.
    stands = (tokens == end) & inside & ~masked
    behind = jnp.cumsum(stands, -1) - stands > 0
    return _State(
        step=state.step + 1,
        masked=masked & ~behind,
        written=Denoised(
            tokens=jnp.where(behind & masked, end, tokens),
            confidence=update(before.confidence, confidence),
            fixed_at=jnp.where(fixed, state.step + 1, before.fixed_at),
            steps=before.steps + state.masked.any(-1),
        ),
        # What was known before the first mask has been read as known.
        start=jnp.minimum(frontier, revised) - 1,
        cache=cache,
    )
