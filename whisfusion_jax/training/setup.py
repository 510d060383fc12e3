"""What a run begins with, out of its config: denoiser, optimizer, the step's settings."""

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh
from jax.typing import DTypeLike

from whisfusion_jax.bundle import Bundle
from whisfusion_jax.config import (
    CtcConfig,
    DenoiserConfig,
    OptimizerConfig,
    ParakeetConfig,
    PhaseConfig,
    TrainConfig,
)
from whisfusion_jax.data.encoded import needed_memory
from whisfusion_jax.diffusion.corruption import Ahead, Corruption, Mixed, Uniform, high_mask
from whisfusion_jax.diffusion.objective import Objective
from whisfusion_jax.errors import WhisfusionError
from whisfusion_jax.hub import find_bundle, find_drafts
from whisfusion_jax.models.ctc import CtcHead, ctc_head
from whisfusion_jax.models.decoder import Decoder
from whisfusion_jax.models.denoiser import LEARNED, LEARNED_BOTH_WAYS, Denoiser, warm_denoiser
from whisfusion_jax.models.stack import Model, stacked
from whisfusion_jax.parallel.mesh import replicated
from whisfusion_jax.parallel.sharding import made_sharded, name_of
from whisfusion_jax.text.merging import Merges
from whisfusion_jax.text.shortlist import Shortlist
from whisfusion_jax.training.ctc_loss import CtcLoss
from whisfusion_jax.training.loss import LossSettings
from whisfusion_jax.training.step import (
    Drafts,
    Frozen,
    Split,
    StepSettings,
    TrainState,
    split,
    start,
)

_MASKING: dict[str, Corruption] = {
    "uniform": Uniform(), "high_mask": high_mask(), "ahead": Ahead()
}  # fmt: skip


@dataclass(frozen=True)
class Beginning:
    """A run before its first step, its arrays where the mesh wants them."""

    sizes: DenoiserConfig | CtcConfig
    shortlist: Shortlist
    """By which texts are counted."""
    parts: Split
    frozen: Frozen
    state: TrainState


def begin(
    config: TrainConfig,
    bundle: Bundle,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
) -> Beginning:
    """Make or load all that a step reads and changes.

    Args:
        bundle: a Whisper's, with a padding memory.

    Raises:
        WhisfusionError: the settings contradict each other, or a bundle has not what is needed.
    """
    memory = needed_memory(bundle, mesh)
    sizes: DenoiserConfig | CtcConfig
    if config.ctc is None:
        sizes, shortlist, parts, parameters = _denoising(config, bundle, mesh)
    else:
        sizes, shortlist = config.ctc, Shortlist.of_texts([], bundle.tokenizer, config.ctc.pieces)
        head = _head(config, config.ctc, bundle, mesh)
        parts, parameters = split(head, config.learned or (".*",))
    dtype = jnp.dtype(config.dtype)
    encoder = None
    if not config.keep_states:
        encoder = _in_place(layers_of(config), mesh, bundle.load_encoder(dtype, mesh))
    frozen = Frozen(
        jax.tree.map(lambda each: _narrowed(each, dtype), parts.frozen),
        memory,
        encoder,
        _drafts(config, bundle, sizes, mesh) if config.drafts else None,
        jax.device_put(jnp.uint32(config.seed), replicated(mesh)),
    )
    state = made_sharded(partial(start, optimizer=optimizer), mesh, parameters)
    return Beginning(sizes, shortlist, parts, frozen, state)


def _narrowed(array: jax.Array, dtype: DTypeLike) -> jax.Array:
    return array.astype(dtype) if jnp.issubdtype(array.dtype, jnp.floating) else array


def _denoising(
    config: TrainConfig, bundle: Bundle, mesh: Mesh
) -> tuple[DenoiserConfig, Shortlist, Split, nnx.State]:
    sizes, shortlist = _sizes(config, bundle)
    _check(config, sizes)
    denoiser = _denoiser(config, bundle, sizes, shortlist, mesh)
    of_itself = LEARNED_BOTH_WAYS if sizes.both_ways else LEARNED
    learned = config.learned or (of_itself if sizes.warm else (".*",))
    parts, parameters = split(denoiser, learned)
    if config.start is not None:
        # What is frozen is Whisper's own, and not in a bundle's eight bits.
        earlier, _ = Bundle.open(find_bundle(config.start)).load_denoiser(mesh=mesh)
        _, parameters = split(_in_place(layers_of(config), mesh, earlier), learned)
    return sizes, shortlist, parts, parameters


def _head(config: TrainConfig, sizes: CtcConfig, bundle: Bundle, mesh: Mesh) -> CtcHead:
    if sizes.width != bundle.config.model.width:
        raise WhisfusionError(
            f"ctc: a head of width {sizes.width} on states of {bundle.config.model.width}"
        )
    if config.start is None:
        return _in_place(partial(ctc_head, sizes, config.seed), mesh)
    earlier = Bundle.open(find_drafts(config.start) or find_bundle(config.start))
    if earlier.config.ctc != sizes:
        raise WhisfusionError(f"start: {config.start} has no head of these sizes")
    return earlier.load_ctc(mesh=mesh)


def _drafts(
    config: TrainConfig, bundle: Bundle, sizes: DenoiserConfig | CtcConfig, mesh: Mesh
) -> Drafts:
    assert config.drafts is not None
    model, named = bundle.config.model, Bundle.open(find_bundle(config.drafts))
    if not isinstance(sizes, DenoiserConfig) or sizes.vocabulary != model.vocabulary:
        raise WhisfusionError(
            f"drafts: only a denoiser of all of Whisper's {model.vocabulary} tokens can read them"
        )
    if named.config.ctc is None or named.config.ctc.width != model.width:
        raise WhisfusionError(f"drafts: {config.drafts} has no CTC head for this Whisper")
    merges = jax.device_put(Merges.of(bundle.tokenizer), replicated(mesh))
    return Drafts(named.load_ctc(mesh=mesh), merges, bundle.tokenizer.end)


def _sizes(config: TrainConfig, bundle: Bundle) -> tuple[DenoiserConfig, Shortlist]:
    if config.start is not None:
        opened = Bundle.open(find_bundle(config.start))
        shortlist, sizes = opened.load_shortlist(), opened.config.denoiser
        assert sizes is not None  # or it had no shortlist
        if sizes.audio_width != bundle.config.model.width:
            raise WhisfusionError(f"start: {config.start} was made for another Whisper's encoder")
        return sizes, shortlist
    model = bundle.config.model
    if config.commonest >= model.vocabulary or not bundle.tokenizer.of_bytes:
        shortlist = Shortlist.whole(model.vocabulary, bundle.tokenizer)
    else:
        shortlist = Shortlist.of_texts(_lines(config.sentences), bundle.tokenizer, config.commonest)
    if config.denoiser is None:
        if isinstance(model, ParakeetConfig):
            raise WhisfusionError(
                f"{bundle.path}: has no decoder to start from, so `denoiser` must give sizes"
            )
        # Weights that learn need no adapters.
        rank = 0 if config.both_ways else 64
        sizes = DenoiserConfig.of_decoder(model, len(shortlist), rank, config.both_ways)
        return sizes, shortlist
    return dataclasses.replace(config.denoiser, vocabulary=len(shortlist)), shortlist


def _check(config: TrainConfig, sizes: DenoiserConfig) -> None:
    if config.stretch is not None and sizes.sees_all:
        raise WhisfusionError("stretch: a denoiser that sees all reads whole canvases")
    again = any(phase.corrects for phase in config.phases)
    if config.stretch is not None and again:
        raise WhisfusionError("stretch: rounds and drafts are of whole canvases")
    if any(phase.drafted for phase in config.phases) and config.drafts is None:
        raise WhisfusionError("drafted: name the bundle whose head hears `drafts`")
    if config.scan and config.stretch is not None:
        raise WhisfusionError("scan: layers that are scanned read whole canvases, without stretch")


def _denoiser(
    config: TrainConfig, bundle: Bundle, sizes: DenoiserConfig, shortlist: Shortlist, mesh: Mesh
) -> Denoiser:
    layers = layers_of(config)
    if not sizes.warm:
        return _in_place(lambda: layers(Denoiser(sizes, rngs=nnx.Rngs(config.seed))), mesh)

    def warm(decoder: Decoder) -> Denoiser:
        return layers(warm_denoiser(decoder, sizes, shortlist.tokens, config.seed))

    return _in_place(warm, mesh, bundle.load_decoder(mesh=mesh))


def layers_of(config: TrainConfig) -> Callable[[Model], Model]:
    """How a model's blocks are kept: one by one, or stacked."""
    return partial(stacked, keep=config.scan) if config.scan else lambda model: model


def _in_place(make: Callable[..., Model], mesh: Mesh, *args: nnx.Module) -> Model:
    """What `make` builds, each of its arrays made where it is to lie."""
    graph = nnx.split(nnx.eval_shape(make, *args))[0]
    return nnx.merge(graph, made_sharded(lambda *args: nnx.state(make(*args)), mesh, *args))


@lru_cache(maxsize=8)
def make_optimizer(config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
    """AdamW behind clipping."""

    def ahead(parameters: nnx.State) -> Any:
        return jax.tree_util.tree_map_with_path(
            lambda path, _: name_of(path).endswith(".ahead"), parameters
        )

    rate = optax.warmup_cosine_decay_schedule(
        0.0, config.rate, min(config.warmup, steps - 1), steps, config.rate * config.final
    )
    first, second = config.betas
    return optax.chain(
        optax.clip_by_global_norm(config.clip),
        optax.adamw(rate, first, second, weight_decay=config.weight_decay),
        optax.masked(optax.scale(config.ahead), ahead),
    )


def step_settings(config: TrainConfig, phase: PhaseConfig, groups: int = 1) -> StepSettings:
    """What a phase's compiled step depends on.

    Args:
        groups: parts of the rows on different devices.
    """
    loss: LossSettings | CtcLoss = CtcLoss()
    if config.ctc is None:
        loss = LossSettings(
            corruption=Mixed(tuple(_MASKING[name] for name in phase.masking)),
            objective=Objective(
                inverse_ratio=config.inverse_ratio,
                teacher=config.teacher,
                seen=config.seen,
                buffer=phase.room,
            ),
            canvases=config.canvases,
            stretch=config.stretch,
            sample=config.sample,
            groups=groups,
            rounds=phase.rounds,
            drafted=phase.drafted,
        )
    return StepSettings(
        loss,
        average=config.optimizer.average,
        dtype=config.dtype,
        accumulate=config.accumulate,
    )


def _lines(paths: Iterable[Path]) -> list[str]:
    try:
        return [line for path in paths for line in path.read_text(encoding="utf-8").splitlines()]
    except OSError as error:
        raise WhisfusionError(f"{error.filename}: {error.strerror}") from None
