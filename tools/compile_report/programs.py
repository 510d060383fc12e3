"""The programs that are compiled: training, hearing, decoding, with arguments that are shapes."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh

from whisfusion_jax.audio.arrays import SAMPLE_RATE
from whisfusion_jax.audio.windows import WINDOW_SECONDS
from whisfusion_jax.bundle import Bundle, abstract_denoiser, abstract_whisper
from whisfusion_jax.config import (
    WHISPER_SIZES,
    CtcConfig,
    DenoiserConfig,
    TokenRules,
    TrainConfig,
    WhisperConfig,
)
from whisfusion_jax.data.batches import Batch, Plan
from whisfusion_jax.data.encoded import TOP
from whisfusion_jax.decoding.canvas import canvas_for
from whisfusion_jax.decoding.denoising import DenoisingSettings
from whisfusion_jax.decoding.vocabulary import Vocabulary
from whisfusion_jax.diffusion.objective import Targets
from whisfusion_jax.errors import WhisfusionError
from whisfusion_jax.hub import find_bundle, find_drafts
from whisfusion_jax.models.ctc import head_of
from whisfusion_jax.models.denoiser import on_decoder, untrained_denoiser
from whisfusion_jax.parallel.mesh import Share, by_rows, one_device, replicated, row_shards
from whisfusion_jax.parallel.sharding import shardings
from whisfusion_jax.text.merging import Merges
from whisfusion_jax.training.flops import StepFlops, step_flops
from whisfusion_jax.training.setup import layers_of, make_optimizer, step_settings
from whisfusion_jax.training.step import Frozen, compile_step, split, start
from whisfusion_jax.transcription.choice import REPAIRED, STRETCH, Wishes, choose
from whisfusion_jax.transcription.decoders import (
    Autoregressive,
    Decode,
    Denoisers,
    Diffusion,
    Exact,
    Texts,
)
from whisfusion_jax.transcription.hearing import Heard, Listener, hear_spread
from whisfusion_jax.transcription.recognise import RecogniserSettings, Rows, write_spread

Program = Literal["train", "hear", "ar", "exact", "diffusion"]
PROMPT = 4
"""Tokens before the text, in multilingual models."""
_BYTES = 256
"""Text tokens that are no merge of others."""
_TEXT_TOKENS = 50_257
"""Of a multilingual Whisper."""


@dataclass(frozen=True)
class Lowered:
    """A program for the compiler, and what is known of it beforehand."""

    program: Callable[[], jax.stages.Traced]
    what: str
    parts: dict[str, Any]
    """Its arguments by what they are, abstract."""
    flops: StepFlops | None
    """Of training."""
    audio_seconds: float
    """That one run of it learns from, or transcribes."""


def lower_of_bundle(what: Program, bundle: str, mesh: Mesh, audios: int) -> Lowered:
    """As `lower`, by a bundle's very weights: what a `Transcriber` runs of windows of 30 s.

    Raises:
        WhisfusionError: there is no such bundle, or it has not what the program needs.
    """
    if what == "train":
        raise WhisfusionError("compile_report: training takes a --config, no --bundle")
    shipped = find_drafts(bundle)
    opened = Bundle.open(find_bundle(bundle, whole=what != "diffusion"))
    model, here, half = opened.config.model, one_device(), jnp.bfloat16
    decoder = "ar" if what == "hear" else what
    chosen = choose(
        opened,
        Bundle.open(shipped) if shipped else opened,
        Wishes(decoder),
        half,
        here,
        platform=mesh.devices.flat[0].platform,
    )
    listener = Listener(opened.load_encoder(half, here), chosen.reader, None, chosen.head, model)
    language = "en" if model.multilingual else None
    parts = _Parts(
        _placed(listener, mesh),
        _placed(chosen.models, mesh),
        chosen.decode,
        len(opened.tokenizer.prompt(language)),
    )
    if what == "hear":
        return _hearing(parts.listener, mesh, audios)
    return _decoding(what, parts, mesh, audios)


def lower(what: Program, config: TrainConfig, mesh: Mesh, audios: int) -> Lowered:
    """Find a program and the shapes of its arguments.

    Args:
        audios: windows of 30 s that each device hears at once; training has its config's batch.

    Raises:
        WhisfusionError: the config doesn't say the denoiser's sizes.
    """
    if what == "train":
        return _training(config, mesh)
    if what == "hear":
        return _hearing(_listener(WHISPER_SIZES[config.bundle], mesh), mesh, audios)
    return _decoding(what, _parts_of_sizes(what, config, mesh), mesh, audios)


def _training(config: TrainConfig, mesh: Mesh) -> Lowered:
    """The step on windows of 30 s, in the run's last phase."""
    model, seconds = WHISPER_SIZES[config.bundle], WINDOW_SECONDS
    sizes = config.denoiser
    if sizes is None:
        raise WhisfusionError("compile_report: the config must say the denoiser's sizes")
    dtype = jnp.dtype(config.dtype)
    denoiser = nnx.eval_shape(layers_of(config), abstract_denoiser(sizes))
    parts, learned = split(denoiser, config.learned or (".*",))
    optimizer = make_optimizer(config.optimizer, config.steps)
    state = _placed(jax.eval_shape(partial(start, optimizer=optimizer), learned), mesh)
    encoder = nnx.eval_shape(layers_of(config), abstract_whisper(model).encoder)
    frozen = Frozen(
        model=_placed(_cast(parts.frozen, dtype), mesh),
        memory=None,  # windows of 30 s need none
        encoder=None if config.keep_states else _placed(_cast(encoder, dtype), mesh),
        seed=_shape((), jnp.uint32, replicated(mesh)),
    )
    canvas = canvas_for(seconds)
    shards = row_shards(mesh)
    plan = Plan(
        None, 1, config.positions, config.canvases, share=Share(0, shards, shards),  # type: ignore[arg-type]
        parts=config.accumulate,
    )  # fmt: skip
    rows = plan.audios(canvas)
    frames = model.frames(seconds)
    audio = (rows, frames, model.width) if config.keep_states else (rows, seconds * SAMPLE_RATE)
    by_row = partial(_shape, sharding=by_rows(mesh))
    batch = Batch(
        by_row(audio, jnp.float16 if config.keep_states else jnp.float32),
        by_row((rows, PROMPT), jnp.int32),
        Targets(
            by_row((rows, canvas), jnp.int32),
            by_row((rows,), jnp.int32),
            by_row((rows, canvas, TOP), jnp.int32),
            by_row((rows, canvas, TOP), jnp.float32),
        ),
        by_row((rows,), jnp.int32),
    )
    settings = step_settings(config, config.phases[-1], shards)
    step = compile_step(parts.graph, optimizer, settings, mesh)
    return Lowered(
        lambda: step.trace(frozen, state=state, batch=batch),
        f"training on {rows} x {seconds} s",
        {
            "encoder": frozen.encoder,
            "parameters": state.learned,
            "their average": state.average,
            "optimizer state": state.optimizer,
        },
        step_flops(config, config.phases[0], model, sizes, batch),
        rows * seconds,
    )


def _listener(model: WhisperConfig, mesh: Mesh) -> Listener:
    whisper = abstract_whisper(model)
    place = partial(_placed_in_bfloat16, mesh=mesh)
    return Listener(place(whisper.encoder), place(whisper.decoder), None, None, model)


def _hearing(listener: Listener, mesh: Mesh, audios: int) -> Lowered:
    """From samples to what a decoder reads of them."""
    sound, rows = _sound(mesh, audios), audios * row_shards(mesh)

    @jax.jit
    def hear(listener: Listener, samples: jax.Array, lengths: jax.Array) -> Heard:
        return hear_spread(listener, samples, lengths, WINDOW_SECONDS, mesh)

    return Lowered(
        lambda: hear.trace(listener, *sound),
        f"hearing {rows} x {WINDOW_SECONDS} s",
        {"encoder": listener.encoder},
        None,
        rows * WINDOW_SECONDS,
    )


@dataclass(frozen=True)
class _Parts:
    """Of a decoder, its arrays abstract."""

    listener: Listener
    models: Any
    decode: Decode
    prompt: int
    """Tokens before the text."""


def _parts_of_sizes(what: Program, config: TrainConfig, mesh: Mesh) -> _Parts:
    model = WHISPER_SIZES[config.bundle]
    place = partial(_placed_in_bfloat16, mesh=mesh)
    whisper = abstract_whisper(model)
    encoder, decoder = place(whisper.encoder), place(whisper.decoder)
    vocabulary = Vocabulary(TokenRules(), end=0)
    settings = DenoisingSettings(vocabulary)
    decode: Decode
    models: Any
    head = None
    if what == "ar":
        models, reader, decode = decoder, decoder, Autoregressive(vocabulary)
    elif what == "exact":
        ctc = CtcConfig.of_whisper(model)
        head = place(nnx.eval_shape(lambda: head_of(ctc, rngs=nnx.Rngs(0))))
        sizes = DenoiserConfig.of_decoder(model, rank=0)
        # The very arrays of the decoder: no second ones.
        denoiser = place(
            nnx.eval_shape(lambda each: on_decoder(untrained_denoiser(sizes), each), decoder)
        )
        models, reader = (decoder, Denoisers(denoiser, _merges())), decoder
        decode = Exact(settings, REPAIRED)
    else:
        if config.denoiser is None:
            raise WhisfusionError("compile_report: the config must say the denoiser's sizes")
        reader = place(abstract_denoiser(config.denoiser))
        models, decode = Denoisers(reader), Diffusion(settings, STRETCH)
    return _Parts(Listener(encoder, reader, None, head, model), models, decode, PROMPT)


def _decoding(what: Program, parts: _Parts, mesh: Mesh, audios: int) -> Lowered:
    """From samples to tokens."""
    seconds = WINDOW_SECONDS
    rows = audios * row_shards(mesh)
    by_row = partial(_shape, sharding=by_rows(mesh))
    asked = Rows(
        by_row((rows,), jnp.bool),
        by_row((rows,), jnp.int32),
        by_row((rows, parts.prompt), jnp.int32),
        by_row((rows, 3), jnp.uint32),
    )
    run = RecogniserSettings(parts.decode)

    @jax.jit
    def recognise(
        listener: Listener, sound: tuple[jax.Array, jax.Array], models: Any, rows: Rows
    ) -> Texts:
        heard = hear_spread(listener, *sound, seconds, mesh)
        return write_spread(models, heard, rows, run, seconds, mesh)

    return Lowered(
        lambda: recognise.trace(parts.listener, _sound(mesh, audios), parts.models, asked),
        f"{what}, {rows} x {seconds} s",
        {"encoder": parts.listener.encoder, "decoder": parts.listener.reader},
        None,
        rows * seconds,
    )


def _sound(mesh: Mesh, audios: int) -> tuple[Any, Any]:
    """Samples, and how many of each row are no padding."""
    rows, by_row = audios * row_shards(mesh), by_rows(mesh)
    samples = _shape((rows, WINDOW_SECONDS * SAMPLE_RATE), jnp.float32, by_row)
    return samples, _shape((rows,), jnp.int32, by_row)


def _merges() -> Merges:
    merges = _TEXT_TOKENS - _BYTES
    return Merges(_shape((merges,), jnp.uint32), _shape((merges,), jnp.int32), _TEXT_TOKENS)


def _shape(shape: tuple[int, ...], dtype: Any, sharding: Any = None) -> Any:
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)


def _cast(tree: Any, dtype: Any) -> Any:
    return jax.tree.map(lambda leaf: _shape(leaf.shape, dtype), tree)


def _placed(tree: Any, mesh: Mesh) -> Any:
    return jax.tree.map(
        lambda leaf, sharding: _shape(leaf.shape, leaf.dtype, sharding), tree, shardings(tree, mesh)
    )


def _placed_in_bfloat16(tree: Any, mesh: Mesh) -> Any:
    return _placed(_cast(tree, jnp.bfloat16), mesh)
