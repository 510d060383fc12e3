"""One training step: loss, gradient, update, all of it one compiled program."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh
from jax.typing import DTypeLike

from whisfusion_jax.audio.arrays import SAMPLE_RATE
from whisfusion_jax.audio.windows import WINDOW_SECONDS
from whisfusion_jax.data.batches import Batch
from whisfusion_jax.data.encoded import encode
from whisfusion_jax.decoding.drafts import Draft
from whisfusion_jax.models.ctc import CtcHead
from whisfusion_jax.models.denoiser import Denoiser
from whisfusion_jax.models.encoder import AudioEncoder, AudioStates
from whisfusion_jax.models.fastconformer import without_padding
from whisfusion_jax.models.padding_memory import PaddingMemory
from whisfusion_jax.parallel.mesh import replicated
from whisfusion_jax.parallel.sharding import shardings
from whisfusion_jax.text.merging import Merges
from whisfusion_jax.training.ctc_loss import hidden_spans
from whisfusion_jax.training.loss import Metrics

Learner = Denoiser | CtcHead


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


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Drafts:
    """What a CTC head hears, as texts of Whisper's tokens."""

    head: CtcHead
    merges: Merges
    end: int = field(metadata={"static": True})

    def __call__(self, audio: AudioStates, batch: Batch, key: jax.Array) -> Draft:
        """Of a batch, some of its frames hidden: the head has learned its texts, and should err."""
        states = hidden_spans(key, audio.without_memory().astype(jnp.float32))
        heard = self.merges(*self.head.hear(states, audio.there()))
        return Draft.of(*heard, batch.targets.tokens.shape[1], self.end)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Frozen:
    """What a step reads and never changes."""

    model: nnx.State
    """The parameters that don't learn."""
    memory: PaddingMemory | None
    """None for encoders that don't hear padding."""
    encoder: AudioEncoder | None = None
    """For batches of samples."""
    drafts: Drafts | None = None
    """Where canvases begin with them."""
    seed: jax.Array | int = 0
    """Of what steps draw."""

    def hear(self, batch: Batch, dtype: DTypeLike) -> AudioStates:
        """A batch's audio as the decoders read it."""
        audio, lengths = jnp.asarray(batch.audio), jnp.asarray(batch.lengths)
        if audio.ndim == 2:
            assert self.encoder is not None
            whole = audio.shape[1] == WINDOW_SECONDS * SAMPLE_RATE
            return encode(self.encoder, None if whole else self.memory, audio, lengths)
        states = audio.astype(dtype)
        if self.memory is None:
            return without_padding(states, lengths)
        return with_memory(states, self.memory)


@dataclass(frozen=True)
class Split:
    """A model in two: what learns and what stays."""

    graph: nnx.GraphDef[Learner]
    frozen: nnx.State

    def merge(self, learned: nnx.State) -> Learner:
        return nnx.merge(self.graph, learned, self.frozen)


def split(model: Learner, learned: Sequence[str]) -> tuple[Split, nnx.State]:
    """Part a model's parameters.

    Args:
        learned: patterns of whole dotted names.

    Returns:
        the frozen half, and the parameters that learn.
    """
    patterns = [re.compile(pattern) for pattern in learned]

    def learns(path: tuple[Any, ...], value: Any) -> bool:
        name = ".".join(map(str, path))
        return any(pattern.fullmatch(name) for pattern in patterns)

    graph, learning, rest = nnx.split(model, learns, ...)  # type: ignore[misc]
    return Split(graph, rest), learning


def start(learned: nnx.State, optimizer: optax.GradientTransformation) -> TrainState:
    """Where training begins."""
    return TrainState(
        jnp.int32(0), learned, jax.tree.map(jnp.copy, learned), optimizer.init(learned)
    )


@dataclass(frozen=True)
class StepSettings:
    """What a compiled step depends on beside shapes."""

    loss: Callable[[Any, AudioStates, Batch, jax.Array], tuple[jax.Array, Metrics]]
    """A frozen dataclass: `LossSettings` for a denoiser, `CtcLoss` for a head."""
    average: float
    """Decay of the moving average."""
    dtype: DTypeLike = jnp.float32
    """That the model computes in."""
    accumulate: int = 1
    """Parts that a batch is read in."""


def make_step(
    graph: nnx.GraphDef[Learner],
    frozen: Frozen,
    optimizer: optax.GradientTransformation,
    settings: StepSettings,
    mesh: Mesh,
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """The step, which compiles once a shape; the old state's memory is used again."""
    compiled = compile_step(graph, optimizer, settings, mesh)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        with jax.set_mesh(mesh):
            return compiled(frozen, state=state, batch=batch)

    return step


@lru_cache(maxsize=8)
def compile_step(
    graph: nnx.GraphDef[Learner],
    optimizer: optax.GradientTransformation,
    settings: StepSettings,
    mesh: Mesh,
) -> Any:
    """The jitted step, to call or to lower, with (frozen, state=, batch=).

    Runs of one process that differ in their seeds alone share it.
    """

    def step(frozen: Frozen, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        new, metrics = _step(graph, optimizer, settings, frozen, state, batch)
        placed = shardings(new, mesh)
        new = jax.lax.with_sharding_constraint(new, placed)
        return new, jax.lax.with_sharding_constraint(metrics, replicated(mesh))

    return jax.jit(step, donate_argnames="state")


def _step(
    graph: nnx.GraphDef[Learner],
    optimizer: optax.GradientTransformation,
    settings: StepSettings,
    frozen: Frozen,
    state: TrainState,
    batch: Batch,
) -> tuple[TrainState, Metrics]:
    key = jax.random.fold_in(jax.random.key(frozen.seed), state.step)
    gradient, metrics = _gradient(graph, settings, frozen, state.learned, batch, key)
    updates, optimizer_state = optimizer.update(gradient, state.optimizer, state.learned)
    learned = optax.apply_updates(state.learned, updates)
    # A young average forgets faster, or it would keep the start for long.
    decay = jnp.minimum(settings.average, (1 + state.step) / (10 + state.step))
    average = optax.incremental_update(learned, state.average, 1 - decay)
    norm = optax.tree.norm(gradient)
    sound = jnp.isfinite(metrics["loss"]) & jnp.isfinite(norm)
    # One bad batch must not spoil what was learned.
    kept = jax.tree.map(
        lambda new, old: jnp.where(sound, new, old),
        (learned, average, optimizer_state),
        (state.learned, state.average, state.optimizer),
    )
    return TrainState(state.step + 1, *kept), {**metrics, "gradient": norm, "skipped": ~sound}


def _gradient(
    graph: nnx.GraphDef[Learner],
    settings: StepSettings,
    frozen: Frozen,
    learned: nnx.State,
    batch: Batch,
    key: jax.Array,
) -> tuple[nnx.State, Metrics]:
    """The gradient of the mean loss over a batch's parts, and the parts' mean metrics."""

    def objective(learned: nnx.State, part: Batch, key: jax.Array) -> tuple[jax.Array, Metrics]:
        narrow = jax.tree.map(lambda each: each.astype(settings.dtype), learned)
        model = nnx.merge(graph, narrow, frozen.model)
        audio = frozen.hear(part, settings.dtype)
        if frozen.drafts is not None:
            part = replace(part, draft=frozen.drafts(audio, part, jax.random.fold_in(key, 1)))
        value, metrics = settings.loss(model, audio, part, key)
        return value, {"loss": value, **metrics}

    measure = jax.grad(objective, has_aux=True)
    parts = settings.accumulate
    if parts == 1:
        return measure(learned, batch, key)

    def add(total: nnx.State, each: tuple[Batch, jax.Array]) -> tuple[nnx.State, Metrics]:
        gradient, metrics = measure(learned, *each)
        return jax.tree.map(jnp.add, total, gradient), metrics

    # Neighbours go to different parts, so that each part is spread over all devices.
    split = jax.tree.map(
        lambda rows: jnp.moveaxis(jnp.asarray(rows).reshape(-1, parts, *rows.shape[1:]), 1, 0),
        batch,
    )
    zeros = jax.tree.map(jnp.zeros_like, learned)
    total, metrics = jax.lax.scan(add, zeros, (split, jax.random.split(key, parts)))
    return (
        jax.tree.map(lambda each: each / parts, total),
        jax.tree.map(lambda each: jnp.nanmean(each, axis=0), metrics)
        | {"loss": metrics["loss"].mean()},
    )


def with_memory(states: jax.Array, memory: PaddingMemory) -> AudioStates:
    """Stored states of a bucket, [batch, frames, width], as the decoders read them."""
    batch, frames, _ = states.shape
    rest = memory.after(frames)
    tail = jnp.broadcast_to(rest.states, (batch, *rest.states.shape)).astype(states.dtype)
    return AudioStates(jnp.concatenate([states, tail], axis=1), rest.score_bias(frames), frames)


def averaged(parts: Split, state: TrainState) -> Learner:
    """The model to use: the averaged parameters."""
    return parts.merge(state.average)
