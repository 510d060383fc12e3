"""What a batch costs a denoiser: its texts corrupted, and asked for again."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from whisfusion_jax.data.batches import Batch
from whisfusion_jax.diffusion.corruption import Corruption, Masked
from whisfusion_jax.diffusion.objective import Objective, choose, loss, sample_vocabulary
from whisfusion_jax.models.decoder import CrossCache
from whisfusion_jax.models.denoiser import Denoiser
from whisfusion_jax.models.encoder import AudioStates
from whisfusion_jax.models.layers import keep_rows

Metrics = dict[str, jax.Array]


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
    """Corrupt each text in several ways, and ask for what is hidden."""
    targets, canvases = batch.targets, settings.canvases
    tokens, prompt = jnp.asarray(targets.tokens), jnp.asarray(batch.prompt)
    audios, n = tokens.shape
    lengths = jnp.repeat(jnp.asarray(targets.lengths), canvases)
    masking, choosing, sampling = jax.random.split(key, 3)
    masked = settings.corruption(masking, lengths, n)
    canvas = jnp.where(
        masked.mask.reshape(audios, canvases, n), denoiser.mask_token, tokens[:, None]
    )
    asked = (lengths, settings.objective)
    if settings.stretch is None:
        hidden = denoiser(prompt, canvas, audio)
        chosen = choose(choosing, masked, *asked, n, settings.groups)
        read = chosen.index
    else:
        size, first = settings.stretch, masked.mask.argmax(-1)
        cross = denoiser.cross_cache(audio)
        hidden = read_stretches(denoiser, prompt, tokens, canvas, first, size, cross)
        near = masked.mask & (jnp.arange(n) < first[:, None] + size)
        chosen = choose(choosing, Masked(near, masked.ratio), *asked, size, settings.groups)
        row, position = chosen.index // n, chosen.index % n
        read = row * size + position - first[row]
    # The output layer costs as much as several others: at the chosen positions alone. Each group
    # looks among its own, so that nothing is gathered from other devices.
    own = hidden.reshape(settings.groups, -1, hidden.shape[-1])
    at = read.reshape(settings.groups, -1, 1) % own.shape[1]
    hidden = keep_rows(jnp.take_along_axis(own, at, axis=1).reshape(-1, hidden.shape[-1]))
    if settings.sample is None:
        logits = denoiser.logits(hidden)
    else:
        sample = sample_vocabulary(sampling, targets, denoiser.mask_token, settings.sample)
        logits, targets = denoiser.logits(hidden, sample.tokens) + sample.bias, sample.targets
    logits = keep_rows(logits)
    return loss(logits, chosen, targets, canvases, settings.objective)


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
