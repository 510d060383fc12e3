"""The training objective: cross-entropy at masked positions, weighted."""

import itertools
import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from whisfusion_jax.diffusion.corruption import Masked
from whisfusion_jax.errors import WhisfusionError

Array = jax.Array | np.ndarray

RATIO_EDGES = (0.25, 0.5, 0.75)
"""Between the mask-ratio buckets that losses are reported by."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Targets:
    """What a batch's canvases should hold."""

    tokens: Array
    """[batch, n] int32: the text, then end tokens."""
    lengths: Array
    """[batch] int32: the text's tokens and its first end token."""
    teacher_tokens: Array | None = None
    """[batch, n, k] int32: Whisper's likeliest tokens at each position, after the true text."""
    teacher_probs: Array | None = None
    """[batch, n, k] float32: their probabilities; 0 where there is none."""


@dataclass(frozen=True)
class Objective:
    """How positions are weighed."""

    inverse_ratio: bool = False
    """Weigh each row by 1/t, the likelihood bound of MDLM and LLaDA; else all alike."""
    padding: float = 0.1
    """Weight of end tokens behind the first. So that they cost less, too, this share of them is
    drawn and the others are left out."""
    teacher: float = 0.0
    """Share of the target that is the teacher's distribution rather than the text's token, where
    the teacher is sure of that token; where it is less sure it teaches less."""
    seen: float = 0.0
    """Share of the visible tokens that are right which is asked for as well, of those that may be
    wrong: so that what a denoiser says of a visible token can be believed."""
    buffer: float = 1.0
    """Room for masked positions, as a share of all: the output layer is computed at these alone.
    What doesn't fit is left out."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Chosen:
    """The masked positions of a batch that are asked for, in a buffer of fixed size."""

    index: jax.Array
    """[m] int32 into the flattened [batch, canvases, n]; anything where unused."""
    weight: jax.Array
    """[m] float32; 0 where unused."""
    ratio: jax.Array
    """[m] float32: the row's mask ratio."""


def choose(
    key: jax.Array,
    masked: Masked,
    lengths: jax.Array,
    objective: Objective,
    most: int,
    groups: int = 1,
    wrong: jax.Array | None = None,
) -> Chosen:
    """Gather the positions that enter the loss.

    Args:
        masked: of [rows, n], an audio's canvases side by side.
        lengths: [rows] int32.
        most: masks in a row.
        groups: equal parts of the rows with a buffer each, one behind the other, so that devices
            gather from their own rows alone.
        wrong: [rows, n]: where a visible token isn't the text's, to be asked for, too; None if all
            are.
    """
    rows, n = masked.mask.shape
    position = jnp.arange(n)
    drawn = jax.random.uniform(key, (rows, n))
    asked = masked.mask
    if wrong is not None:
        seen = jax.random.uniform(jax.random.fold_in(key, 1), (rows, n)) < objective.seen
        asked = asked | wrong | seen
    asked = asked & ((position < lengths[:, None]) | (drawn < objective.padding))
    part = rows * n // groups
    size = math.ceil(objective.buffer * (rows // groups) * min(most, n))
    index = jax.vmap(lambda each: jnp.nonzero(each, size=size, fill_value=-1)[0])(
        asked.reshape(groups, part)
    )
    used = (index >= 0).ravel()
    index = (jnp.maximum(index, 0) + part * jnp.arange(groups)[:, None]).ravel()
    ratio = masked.ratio[index // n]
    weight = 1 / ratio if objective.inverse_ratio else jnp.ones_like(ratio)
    return Chosen(index, jnp.where(used, weight, 0.0), ratio)


def loss(
    logits: jax.Array, chosen: Chosen, targets: Targets, canvases: int, objective: Objective
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Mean weighted cross-entropy over the chosen positions, in nats.

    Args:
        logits: [m, vocabulary] float32.
        canvases: of each audio.

    Returns:
        the loss, and what to report: `loss/<t from>-<t to>` by mask ratio (NaN where there was
        none), `accuracy` of the likeliest token.
    """
    n = targets.tokens.shape[1]
    audio = chosen.index // (canvases * n)
    at = (audio, chosen.index % n)
    truth = jnp.asarray(targets.tokens)[at]
    normaliser = jax.nn.logsumexp(logits, axis=-1)
    likelihood = _pick(logits, truth[:, None])[:, 0] - normaliser
    each = -likelihood
    if objective.teacher and targets.teacher_tokens is not None:
        assert targets.teacher_probs is not None
        names = jnp.asarray(targets.teacher_tokens)[at]
        probs = jnp.asarray(targets.teacher_probs)[at]
        total = probs.sum(-1)
        scores = _pick(logits, names)
        taught = normaliser - (probs * scores).sum(-1) / jnp.maximum(total, 1e-6)
        share = objective.teacher * (probs * (names == truth[:, None])).sum(-1)
        each = (1 - share) * each + share * taught
    weight = chosen.weight
    mean = (weight * each).sum() / jnp.maximum(weight.sum(), 1e-6)
    plain = (weight > 0).astype(jnp.float32)
    # An arg-max would take as long as a layer.
    right = (_pick(logits, truth[:, None])[:, 0] >= logits.max(-1)) * plain
    report = {"accuracy": right.sum() / plain.sum()}
    bucket = jnp.digitize(chosen.ratio, jnp.array(RATIO_EDGES), right=True)
    edges = (0.0, *RATIO_EDGES, 1.0)
    for i, (low, high) in enumerate(itertools.pairwise(edges)):
        inside = plain * (bucket == i)
        report[f"loss/{low:g}-{high:g}"] = (inside * -likelihood).sum() / inside.sum()
    return mean, report


@dataclass(frozen=True)
class Sample:
    """Some of the vocabulary, for a softmax that costs less."""

    tokens: jax.Array
    """[size] int32: all of a batch's, and others at random."""
    bias: jax.Array
    """[size] float32, to add to their scores: each one drawn stands for those that were not, so
    that the softmax's sum is right in the mean."""
    targets: Targets
    """The batch's, its tokens counted as the sample counts."""


def sample_vocabulary(key: jax.Array, targets: Targets, vocabulary: int, size: int) -> Sample:
    """Draw a sample that has a batch's tokens in it, and its teacher's.

    Raises:
        WhisfusionError: it may be too small for the batch's tokens.
    """
    tokens = jnp.asarray(targets.tokens)
    if not tokens.size < size <= vocabulary:
        raise WhisfusionError(
            f"a sample of {size} tokens: more than the batch's {tokens.size} positions, and at "
            f"most the vocabulary's {vocabulary}"
        )
    order = jax.random.uniform(key, (vocabulary,)).at[tokens].set(3.0)
    if targets.teacher_tokens is not None:
        order = order.at[jnp.asarray(targets.teacher_tokens)].max(2.0)
    _, drawn = jax.lax.top_k(order, size)
    certain = order[drawn] >= 2
    count = certain.sum()
    weight = (vocabulary - count) / jnp.maximum(size - count, 1)
    place = jnp.full(vocabulary, -1).at[drawn].set(jnp.arange(size))
    own = Targets(place[tokens], targets.lengths)
    if targets.teacher_tokens is not None and targets.teacher_probs is not None:
        taught = place[jnp.asarray(targets.teacher_tokens)]
        own = Targets(own.tokens, own.lengths, taught, targets.teacher_probs * (taught >= 0))
    return Sample(drawn, jnp.where(certain, 0.0, jnp.log(weight)), own)


def _pick(logits: jax.Array, tokens: jax.Array) -> jax.Array:
    """Scores of some tokens a row: [m, vocabulary] and [m, k] to [m, k]."""
    return jnp.take_along_axis(logits, tokens, axis=-1)
