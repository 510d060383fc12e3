"""Compile the real programs for devices that are not here, and say what they would need.

python -m tools.compile_report --config FILE --topology v5e:4x4 --mesh.fsdp 16

The TPU's or the GPU's own compiler does it, and needs neither (docs/running_at_scale.md); `cpu:8`
takes virtual CPU devices. A command on top of all packages, although it stands here.
"""

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from flax import nnx
from jax.sharding import Mesh
from rich.console import Console
from rich.table import Table

from tools.compile_report.collectives import Traffic, traffic_of
from tools.compile_report.topology import devices_of
from whisfusion_jax.audio.mel import SAMPLE_RATE
from whisfusion_jax.audio.windows import WINDOW_SECONDS
from whisfusion_jax.bundle import abstract_denoiser, abstract_whisper
from whisfusion_jax.cli import run
from whisfusion_jax.config import (
    WHISPER_SIZES,
    MeshConfig,
    TokenRules,
    TrainConfig,
    read_config,
)
from whisfusion_jax.data.batches import Batch, Plan
from whisfusion_jax.data.encoded import TOP
from whisfusion_jax.decoding.canvas import canvas_for
from whisfusion_jax.decoding.denoising import DenoisingSettings
from whisfusion_jax.decoding.vocabulary import Vocabulary
from whisfusion_jax.diffusion.objective import Targets
from whisfusion_jax.errors import WhisfusionError
from whisfusion_jax.parallel.chips import Chip, chip_of
from whisfusion_jax.parallel.mesh import Share, by_rows, make_mesh, row_shards
from whisfusion_jax.parallel.sharding import shardings
from whisfusion_jax.training.flops import StepFlops, encoder_flops, step_flops
from whisfusion_jax.training.setup import layers_of, make_optimizer, step_settings
from whisfusion_jax.training.step import Frozen, compile_step, split, start
from whisfusion_jax.transcription.choice import STRETCH
from whisfusion_jax.transcription.decoders import Denoisers, Diffusion, Texts
from whisfusion_jax.transcription.hearing import Listener, hear_spread
from whisfusion_jax.transcription.recognise import RecogniserSettings, Rows, write_spread

_ALL = MeshConfig()
PROMPT = 4
"""Tokens before the text, in multilingual models."""


@dataclass(frozen=True)
class Lowered:
    """A program for the compiler, and what is known of it beforehand."""

    program: Any
    what: str
    parts: dict[str, Any]
    """Its arguments by what they are, abstract."""
    flops: StepFlops | None
    audio_seconds: float
    """That one run of it learns from, or transcribes."""


@dataclass(frozen=True)
class Report:
    """What a compiled program needs, each chip."""

    topology: str
    mesh: str
    what: str
    chip: Chip | None
    parts: dict[str, float]
    """Bytes of its arguments by what they are."""
    temporaries: float
    peak: float
    flops: StepFlops | None
    traffic: Sequence[Traffic]
    compile_seconds: float
    audio_seconds: float

    def seconds(self) -> dict[str, float]:
        """Least time of a run: arithmetic, and traffic, if each went at full speed."""
        if self.chip is None or self.flops is None:
            return {}
        devices = np.prod([int(size) for size in self.mesh.split("x")])
        executed = (self.flops.model + self.flops.again) / devices
        return {
            "arithmetic": executed / self.chip.flops,
            "traffic": sum(each.bytes for each in self.traffic) / self.chip.links,
        }

    def fits(self) -> bool:
        return self.chip is None or self.peak <= self.chip.memory

    def table(self) -> Table:
        """For people."""
        table = Table(title=f"{self.what}, {self.topology}, mesh {self.mesh}", show_header=False)
        table.add_row("compiled in", f"{self.compile_seconds:.0f} s")
        for name, size in self.parts.items():
            table.add_row(f"{name}, each chip", _gigabytes(size))
        table.add_row("temporaries, each chip", _gigabytes(self.temporaries))
        limit = f" of {_gigabytes(self.chip.memory)}" if self.chip else ""
        table.add_row("peak memory, each chip", _gigabytes(self.peak) + limit)
        if self.flops is not None:
            table.add_row(
                "arithmetic of the model, all chips", f"{self.flops.model / 1e12:.0f} TFLOP"
            )
            if self.flops.again:
                again = self.flops.again / self.flops.model
                table.add_row("computed again besides", f"{again:.0%}")
        for each in self.traffic:
            table.add_row(
                f"{each.kind}, each chip",
                f"{each.times} times, {_gigabytes(each.bytes)} sent, "
                f"the largest {_gigabytes(each.largest)}",
            )
        for name, seconds in self.seconds().items():
            table.add_row(f"least time of {name}", f"{seconds * 1e3:.0f} ms")
        return table


def main(
    config: Path,
    topology: str,
    mesh: MeshConfig = _ALL,
    what: Literal["train", "decode"] = "train",
    audios: int = 16,
    positions: int | None = None,
) -> int:
    """Compile for a topology, and print what it would need.

    Args:
        config: Of a training run, a file in configs/.
        topology: Such as v5e:4x4, v5p:4x4x4, h100:8, h200:4x8 (hosts of eight), a100:1, or cpu:8.
        mesh: How its devices share the work.
        what: The train step, or the decoding loop of diffusion.
        audios: That each chip decodes at once, of 30 s.
        positions: Canvas positions of a training batch, instead of the config's.
    """
    devices = devices_of(topology)
    read = read_config(config)
    read = dataclasses.replace(read, mesh=mesh, positions=positions or read.positions)
    laid = make_mesh(mesh, devices)
    lower = lower_training if what == "train" else partial(lower_decoding, audios=audios)
    report = compile_for(lower(read, laid), laid, topology)
    Console().print(report.table())
    if not report.fits():
        assert report.chip is not None
        raise WhisfusionError(
            f"{report.what}: needs {_gigabytes(report.peak)} on each chip, and a "
            f"{report.chip.name} has {_gigabytes(report.chip.memory)}: use more chips, a larger "
            "mesh.fsdp, fewer positions, or accumulate"
        )
    return 0


def compile_for(lowered: Lowered, mesh: Mesh, topology: str) -> Report:
    """Compile, and read what the compiler says of it.

    Raises:
        WhisfusionError: the compiler finds no room for it.
    """
    begin = time.perf_counter()
    try:
        with jax.set_mesh(mesh):
            compiled = lowered.program().compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        reason = str(error).partition("RESOURCE_EXHAUSTED: ")[2].partition("\n")[0]
        raise WhisfusionError(f"{lowered.what} does not fit {topology}: {reason}") from None
    seconds = time.perf_counter() - begin
    memory = compiled.memory_analysis()
    arguments, results = memory.argument_size_in_bytes, memory.output_size_in_bytes
    temporaries = memory.temp_size_in_bytes
    return Report(
        topology=topology,
        mesh="x".join(str(size) for size in mesh.shape.values()),
        what=lowered.what,
        chip=chip_of(mesh.devices.flat[0]),
        parts={name: _bytes_each(tree) for name, tree in lowered.parts.items()},
        temporaries=temporaries,
        # What is given away makes room for what comes out.
        peak=arguments + results - memory.alias_size_in_bytes + temporaries,
        flops=lowered.flops,
        traffic=traffic_of(compiled.as_text()),
        compile_seconds=seconds,
        audio_seconds=lowered.audio_seconds,
    )


def lower_training(config: TrainConfig, mesh: Mesh) -> Lowered:
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
        lambda: step.lower(frozen, state=state, batch=batch),
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


def lower_decoding(config: TrainConfig, mesh: Mesh, audios: int) -> Lowered:
    """Diffusion of windows of 30 s, from samples to tokens."""
    model, sizes, seconds = WHISPER_SIZES[config.bundle], config.denoiser, WINDOW_SECONDS
    if sizes is None:
        raise WhisfusionError("compile_report: the config must say the denoiser's sizes")
    rows = audios * row_shards(mesh)
    encoder = _placed(_cast(abstract_whisper(model).encoder, jnp.bfloat16), mesh)
    denoiser = _placed(_cast(abstract_denoiser(sizes), jnp.bfloat16), mesh)
    by_row = partial(_shape, sharding=by_rows(mesh))
    samples = by_row((rows, seconds * SAMPLE_RATE), jnp.float32)
    asked = Rows(
        by_row((rows,), jnp.bool),
        by_row((rows,), jnp.int32),
        by_row((rows, PROMPT), jnp.int32),
        by_row((rows, 3), jnp.uint32),
    )
    lengths = by_row((rows,), jnp.int32)
    listener = Listener(encoder, denoiser, None, None, model)
    writing = DenoisingSettings(Vocabulary(TokenRules(), end=0))
    settings = RecogniserSettings(Diffusion(writing, STRETCH))

    @jax.jit
    def recognise(
        listener: Listener, sound: tuple[jax.Array, jax.Array], model: Denoisers, rows: Rows
    ) -> Texts:
        heard = hear_spread(listener, *sound, seconds, mesh)
        return write_spread(model, heard, rows, settings, seconds, mesh)

    return Lowered(
        lambda: recognise.lower(listener, (samples, lengths), Denoisers(denoiser), asked),
        f"decoding {rows} x {seconds} s",
        {"encoder": encoder, "denoiser": denoiser},
        StepFlops(rows * encoder_flops(model, model.frames(seconds)), 0.0),
        rows * seconds,
    )


def _shape(shape: tuple[int, ...], dtype: Any, sharding: Any = None) -> Any:
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)


def _cast(tree: Any, dtype: Any) -> Any:
    return jax.tree.map(lambda leaf: _shape(leaf.shape, dtype), tree)


def _placed(tree: Any, mesh: Mesh) -> Any:
    return jax.tree.map(
        lambda leaf, sharding: _shape(leaf.shape, leaf.dtype, sharding), tree, shardings(tree, mesh)
    )


def _bytes_each(tree: Any) -> float:
    """Of a tree's arrays, on one device."""
    return float(
        sum(
            np.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
            for leaf in jax.tree.leaves(tree)
        )
    )


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:.2f} GB"


if __name__ == "__main__":
    run(lambda: tyro.cli(main, description=__doc__))
