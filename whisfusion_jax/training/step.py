"""One training step of a denoiser on encoded speech."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from whisfusion_jax.data.batches import Batch
from whisfusion_jax.diffusion.corruption import Corruption, Masked
from whisfusion_jax.diffusion.objective import Objective, choose, loss, sample_vocabulary
from whisfusion_jax.models.decoder import CrossCache
from whisfusion_jax.models.denoiser import Denoiser
from whisfusion_jax.models.encoder import AudioStates
from whisfusion_jax.models.padding_memory import PaddingMemory

Metrics = dict[str, jax.Array]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrainState:
    """Everything that a step changes."""

    step: jax.Array
    learned: nnx.State
    """The parameters that learn; the frozen ones are no part of this."""
    average: nnx.State
    """Their exponential moving average, which is what gets used."""
    optimizer: optax.OptState


@dataclass(frozen=True)
class Split:
    """A denoiser in two: what learns and what stays."""

    graph: nnx.GraphDef[Denoiser]
    frozen: nnx.State

    def merge(self, learned: nnx.State) -> Denoiser:
        return nnx.merge(self.graph, learned, self.frozen)


def split(denoiser: Denoiser, learned: Sequence[str]) -> tuple[Split, nnx.State]:
    """Part a denoiser's parameters.

    Args:
        learned: patterns of whole dotted names.

    Returns:
        the frozen half, and the parameters that learn.
    """
    patterns = [re.compile(pattern) for pattern in learned]

    def learns(path: tuple[Any, ...], value: Any) -> bool:
        name = ".".join(map(str, path))
        return any(pattern.fullmatch(name) for pattern in patterns)

    graph, learning, rest = nnx.split(denoiser, learns, ...)  # type: ignore[misc]
    return Split(graph, rest), learning


def start(learned: nnx.State, optimizer: optax.GradientTransformation) -> TrainState:
    """Where training begins."""
    return TrainState(
        jnp.int32(0), learned, jax.tree.map(jnp.copy, learned), optimizer.init(learned)
    )


@dataclass(frozen=True)
class StepSettings:
    """What a compiled step depends on beside shapes."""

    corruption: Corruption
    objective: Objective
    canvases: int
    average: float
    """Decay of the moving average."""
    seed: int
    stretch: int | None = None
    """Read so many positions of each canvas, from its first mask on; None reads all."""
    sample: int | None = None
    """Tokens that the softmax is over; None is the whole vocabulary."""


def make_step(
    parts: Split,
    memory: PaddingMemory,
    optimizer: optax.GradientTransformation,
    settings: StepSettings,
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """Compile the step; the old state's memory is used again for the new one."""
    graph = parts.graph
    compiled = jax.jit(partial(_step, graph, optimizer, settings), donate_argnames="state")

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        return compiled(parts.frozen, memory, state=state, batch=batch)

    return step


def _step(
    graph: nnx.GraphDef[Denoiser],
    optimizer: optax.GradientTransformation,
    settings: StepSettings,
    frozen: nnx.State,
    memory: PaddingMemory,
    state: TrainState,
    batch: Batch,
) -> tuple[TrainState, Metrics]:
    key = jax.random.fold_in(jax.random.key(settings.seed), state.step)
    audio = with_memory(jnp.asarray(batch.states), memory)

    def objective(learned: nnx.State) -> tuple[jax.Array, Metrics]:
        denoiser = nnx.merge(graph, learned, frozen)
        return denoising_loss(denoiser, audio, batch, key, settings)

    (value, metrics), gradient = jax.value_and_grad(objective, has_aux=True)(state.learned)
    updates, optimizer_state = optimizer.update(gradient, state.optimizer, state.learned)
    learned = optax.apply_updates(state.learned, updates)
    # A young average forgets faster, or it would keep the start for long.
    decay = jnp.minimum(settings.average, (1 + state.step) / (10 + state.step))
    average = optax.incremental_update(learned, state.average, 1 - decay)
    metrics = {"loss": value, "gradient": optax.tree.norm(gradient), **metrics}
    return TrainState(state.step + 1, learned, average, optimizer_state), metrics


def denoising_loss(
    denoiser: Denoiser,
    audio: AudioStates,
    batch: Batch,
    key: jax.Array,
    settings: StepSettings,
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
    cross = denoiser.cross_cache(audio)
    if settings.stretch is None:
        hidden = denoiser(prompt, canvas, cross)
        chosen = choose(choosing, masked, lengths, settings.objective, n)
        read = chosen.index
    else:
        size, first = settings.stretch, masked.mask.argmax(-1)
        hidden = read_stretches(denoiser, prompt, tokens, canvas, first, size, cross)
        near = masked.mask & (jnp.arange(n) < first[:, None] + size)
        chosen = choose(choosing, Masked(near, masked.ratio), lengths, settings.objective, size)
        row, position = chosen.index // n, chosen.index % n
        read = row * size + position - first[row]
    # The output layer costs as much as several others: at the chosen positions alone.
    hidden = hidden.reshape(-1, hidden.shape[-1])[read]
    if settings.sample is None:
        logits = denoiser.logits(hidden)
    else:
        sample = sample_vocabulary(sampling, targets, denoiser.mask_token, settings.sample)
        logits, targets = denoiser.logits(hidden, sample.tokens) + sample.bias, sample.targets
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


def with_memory(states: jax.Array, memory: PaddingMemory) -> AudioStates:
    """Stored states of a bucket, [batch, frames, width], as the decoders read them."""
    states = states.astype(jnp.float32)
    batch, frames, _ = states.shape
    rest = memory.after(frames)
    tail = jnp.broadcast_to(rest.states, (batch, *rest.states.shape))
    return AudioStates(jnp.concatenate([states, tail], axis=1), rest.score_bias(frames))


def averaged(parts: Split, state: TrainState) -> Denoiser:
    """The denoiser to use: the averaged parameters."""
    return parts.merge(state.average)
