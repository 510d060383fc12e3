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
from whisfusion_jax.diffusion.corruption import Corruption
from whisfusion_jax.diffusion.objective import Objective, choose, loss
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
    tokens = jnp.asarray(targets.tokens)
    audios, n = tokens.shape
    lengths = jnp.repeat(jnp.asarray(targets.lengths), canvases)
    masking, choosing = jax.random.split(key)
    masked = settings.corruption(masking, lengths, n)
    chosen = choose(choosing, masked, lengths, settings.objective)
    mask = masked.mask.reshape(audios, canvases, n)
    canvas = jnp.where(mask, denoiser.mask_token, tokens[:, None])
    hidden = denoiser(jnp.asarray(batch.prompt), canvas, denoiser.cross_cache(audio))
    # The output layer costs as much as several others: at the chosen positions alone.
    logits = denoiser.logits(hidden.reshape(-1, hidden.shape[-1])[chosen.index])
    return loss(logits, chosen, targets, canvases, settings.objective)


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
