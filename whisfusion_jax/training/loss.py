"""What a batch costs a denoiser: its texts corrupted, and asked for again."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp

from whisfusion_jax.data.batches import Batch
from whisfusion_jax.diffusion.correction import Canvases, doubted
from whisfusion_jax.diffusion.corruption import Corruption, Masked
from whisfusion_jax.diffusion.objective import Objective, Sample, choose, loss, sample_vocabulary
from whisfusion_jax.models.decoder import CrossCache
from whisfusion_jax.models.denoiser import Denoiser
from whisfusion_jax.models.encoder import AudioStates
from whisfusion_jax.models.layers import keep_rows
from whisfusion_jax.models.output import arg_max
from whisfusion_jax.models.stack import Stack

Metrics = dict[str, jax.Array]

_AGAIN = ("accuracy",)
"""What is reported of rounds behind the first."""


@dataclass(frozen=True)
class LossSettings:
    """What a denoiser's loss depends on beside shapes."""

    corruption: Corruption
    objective: Objective
    canvases: int
    """Of each audio."""
    stretch: int | None = None
    """Read so many positions of each canvas, from its first mask on; None reads all."""
    sample: int | None = None
    """Tokens that the softmax is over; None is the whole vocabulary."""
    groups: int = 1
    """Equal parts of the rows, on different devices; see `choose`."""
    rounds: int = 1
    """Each but the first begins with what the one before wrote (diffusion/correction.py)."""
    drafted: int = 0
    """The first so many canvases of an audio begin with the batch's draft, its least sure tokens
    masked, instead of by the corruption."""

    def __call__(
        self, denoiser: Denoiser, audio: AudioStates, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, Metrics]:
        return denoising_loss(denoiser, audio, batch, key, self)


def denoising_loss(
    denoiser: Denoiser,
    audio: AudioStates,
    batch: Batch,
    key: jax.Array,
    settings: LossSettings,
) -> tuple[jax.Array, Metrics]:
    """Corrupt each text in several ways, and ask for what is hidden, in one round or more."""
    asking, sampling = jax.random.split(key)
    sample = None
    if settings.sample is not None:
        size = settings.sample
        sample = sample_vocabulary(sampling, batch.targets, denoiser.mask_token, size)
    # Whose layers are scanned makes its keys and values as it goes.
    once = settings.stretch is None and settings.rounds == 1
    scanned = isinstance(denoiser.blocks, Stack)
    heard: AudioStates | CrossCache = audio
    if not (once or scanned):
        # One bias for all rows, where it is one: so cuDNN takes it.
        heard = replace(denoiser.cross_cache(audio), bias=audio.bias)
    standing = _standing(batch, settings)
    values: list[jax.Array] = []
    metrics: Metrics = {}
    for number in range(settings.rounds):
        own = jax.random.fold_in(asking, number)
        value, report, standing = _round(
            denoiser, heard, batch, standing, own, settings, sample, first=number == 0
        )
        values.append(value)
        metrics |= report if number == 0 else {f"again/{name}": report[name] for name in _AGAIN}
    return jnp.stack(values).mean(), metrics


def _standing(batch: Batch, settings: LossSettings) -> Canvases:
    """What the canvases hold before anything is masked: the texts, or drafts of some."""
    tokens = jnp.asarray(batch.targets.tokens)
    audios, n = tokens.shape
    tokens = jnp.broadcast_to(tokens[:, None], (audios, settings.canvases, n))
    sure = jnp.ones(tokens.shape)
    if settings.drafted:
        assert batch.draft is not None
        drafted = jnp.arange(settings.canvases)[:, None] < settings.drafted
        tokens = jnp.where(drafted, batch.draft.tokens[:, None], tokens)
        sure = jnp.where(drafted, batch.draft.sure[:, None], sure)
    return Canvases(tokens.reshape(-1, n), sure.reshape(-1, n))


def _round(
    denoiser: Denoiser,
    audio: AudioStates | CrossCache,
    batch: Batch,
    standing: Canvases,
    key: jax.Array,
    settings: LossSettings,
    sample: Sample | None,
    first: bool,
) -> tuple[jax.Array, Metrics, Canvases]:
    """Mask, ask, and put in what the model says; `first` asks of whole texts."""
    prompt, tokens = jnp.asarray(batch.prompt), jnp.asarray(batch.targets.tokens)
    audios, n = tokens.shape
    canvases, groups = settings.canvases, settings.groups
    lengths = jnp.repeat(jnp.asarray(batch.targets.lengths), canvases)
    masking, choosing, doubting = jax.random.split(key, 3)
    masked = doubted(doubting, standing)
    wrong = standing.tokens != jnp.repeat(tokens, canvases, axis=0)
    if first:
        drawn = settings.corruption(masking, lengths, n)
        drafted = jnp.arange(len(lengths)) % canvases < settings.drafted
        masked = Masked(
            jnp.where(drafted[:, None], masked.mask, drawn.mask),
            jnp.where(drafted, masked.ratio, drawn.ratio),
        )
    canvas = jnp.where(masked.mask, denoiser.mask_token, standing.tokens)
    canvas = canvas.reshape(audios, canvases, n)
    visible = None if first and not settings.drafted else wrong & ~masked.mask
    if settings.stretch is None:
        hidden = denoiser(prompt, canvas, audio)
        chosen = choose(choosing, masked, lengths, settings.objective, n, groups, visible)
        read = chosen.index
    else:
        assert isinstance(audio, CrossCache)
        size, begin = settings.stretch, masked.mask.argmax(-1)
        hidden = read_stretches(denoiser, prompt, tokens, canvas, begin, size, audio)
        near = masked.mask & (jnp.arange(n) < begin[:, None] + size)
        chosen = choose(
            choosing, Masked(near, masked.ratio), lengths, settings.objective, size, groups
        )
        row, position = chosen.index // n, chosen.index % n
        read = row * size + position - begin[row]
    # The output layer costs as much as several others: at the chosen positions alone. Each group
    # looks among its own, so that nothing is gathered from other devices.
    own = hidden.reshape(groups, -1, hidden.shape[-1])
    at = read.reshape(groups, -1, 1) % own.shape[1]
    hidden = keep_rows(jnp.take_along_axis(own, at, axis=1).reshape(-1, hidden.shape[-1]))
    targets = batch.targets
    if sample is None:
        logits = keep_rows(denoiser.logits(hidden))
    else:
        logits = keep_rows(denoiser.logits(hidden, sample.tokens) + sample.bias)
        targets = sample.targets
    value, metrics = loss(logits, chosen, targets, canvases, settings.objective)
    if settings.rounds > 1:
        likeliest = arg_max(logits)
        sure = jnp.exp(logits.max(-1) - jax.nn.logsumexp(logits, axis=-1))
        likeliest = likeliest if sample is None else sample.tokens[likeliest]
        standing = standing.written(chosen.index, chosen.weight > 0, likeliest, sure, groups)
    return value, metrics, standing


def read_stretches(
    denoiser: Denoiser,
    prompt: jax.Array,
    tokens: jax.Array,
    canvas: jax.Array,
    first: jax.Array,
    size: int,
    cross: CrossCache,
) -> jax.Array:
    """A warm denoiser's pass over a stretch of each canvas, from its first mask on.

    What stands before is read once for all canvases of a text, as Whisper reads it: nothing there
    learns. What is behind counts as masked.

    Args:
        prompt: [audios, p] int32.
        tokens: [audios, n] int32: the texts.
        canvas: [audios, canvases, n] int32: the same, with masks.
        first: [audios * canvases] int32: the first mask of each canvas.

    Returns:
        hidden states [audios, canvases, size, width], entry i for canvas position `first + i`.
    """
    audios, canvases, n = canvas.shape
    p = prompt.shape[1]
    behind = ((0, 0), (0, 0), (0, size))

    def whole(rows: jax.Array) -> jax.Array:
        prompts = jnp.broadcast_to(prompt[:, None], (*rows.shape[:2], p))
        return jnp.pad(jnp.concatenate([prompts, rows], axis=-1), behind)

    text = whole(tokens[:, None])
    end = text.shape[-1]
    empty, start = denoiser.empty_cache(audios, end), jnp.zeros((audios, 1), jnp.int32)
    _, cache = denoiser.stretch(text, start, end, p, end, cross, empty)
    shared = jax.tree.map(
        lambda each: jnp.repeat(jax.lax.stop_gradient(each), canvases, axis=0), cache
    )
    start = (p - 1 + first).reshape(audios, canvases)
    hidden, _ = denoiser.stretch(whole(canvas), start, size, p, p + n, cross, shared)
    return hidden
