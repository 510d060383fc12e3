"""Compile the real programs for devices that are not here, and say what they would need.

python -m tools.compile_report --config FILE --topology v5e:4x4 --mesh.fsdp 16

The TPU's or the GPU's own compiler does it, and needs neither (docs/running_at_scale.md); `cpu:8`
takes virtual CPU devices. A command on top of all packages, although it stands here.
"""

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro
from jax.sharding import Mesh
from rich.console import Console
from rich.table import Table

from tools.compile_report.collectives import Traffic, traffic_of
from tools.compile_report.products import Work, work_of
from tools.compile_report.programs import Lowered, Program, lower, lower_of_bundle
from tools.compile_report.topology import devices_of
from whisfusion_jax.cli import run
from whisfusion_jax.config import MeshConfig, read_config
from whisfusion_jax.errors import WhisfusionError
from whisfusion_jax.parallel.chips import Chip, chip_of
from whisfusion_jax.parallel.mesh import make_mesh
from whisfusion_jax.training.flops import StepFlops

_ALL = MeshConfig()


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
    """Of training, by the model's sizes."""
    work: Work
    """Of the program as it is written."""
    traffic: Sequence[Traffic]
    by_cudnn: int
    """Places in the program where cuDNN attends, and no scores are kept."""
    compile_seconds: float
    audio_seconds: float

    def seconds(self) -> dict[str, float]:
        """Least time of a run: arithmetic, and traffic, if each went at full speed."""
        if self.chip is None:
            return {}
        devices = np.prod([int(size) for size in self.mesh.split("x")])
        flops = self.flops
        executed = (flops.model + flops.again if flops else self.work.once.flops) / devices
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
        once, passes = self.work.once, self.work.passes
        table.add_row(
            "products, all chips", f"{once.flops / 1e12:.0f} TFLOP, {once.bytes / 1e9:.0f} GB"
        )
        for a_pass in passes:
            table.add_row(
                "a pass of a loop besides",
                f"{a_pass.flops / 1e9:.3g} GFLOP, {a_pass.bytes / 1e9:.3g} GB",
            )
        if self.flops is not None:
            table.add_row(
                "arithmetic of the model, all chips", f"{self.flops.model / 1e12:.0f} TFLOP"
            )
            if self.flops.again:
                again = self.flops.again / self.flops.model
                table.add_row("computed again besides", f"{again:.0%}")
        if self.by_cudnn:
            table.add_row("attention by cuDNN", f"in {self.by_cudnn} places")
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
    topology: str,
    config: Path | None = None,
    bundle: str | None = None,
    mesh: MeshConfig = _ALL,
    what: Program = "train",
    audios: int = 16,
    positions: int | None = None,
) -> int:
    """Compile for a topology, and print what it would need.

    Args:
        topology: Such as v5e:4x4, v5p:4x4x4, h100:8, h200:4x8 (hosts of eight), a100:1, or cpu:8.
        config: Of a training run, a file in configs/.
        bundle: Instead, a bundle by its name or directory, such as tiny.en, whose weights decode.
        mesh: How its devices share the work.
        what: The train step, the encoder, or a decoder from samples to tokens, of the config's
            sizes; ar and exact are its Whisper's, exact with a head of the usual size.
        audios: Windows of 30 s that each chip hears at once.
        positions: Canvas positions of a training batch, instead of the config's.
    """
    devices = devices_of(topology)
    laid = make_mesh(mesh, devices)
    if (config is None) == (bundle is None):
        raise WhisfusionError("name a --config or a --bundle")
    if config is None:
        assert bundle is not None
        lowered = lower_of_bundle(what, bundle, laid, audios)
    else:
        read = read_config(config)
        read = dataclasses.replace(read, mesh=mesh, positions=positions or read.positions)
        lowered = lower(what, read, laid, audios)
    report = compile_for(lowered, laid, topology)
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
            traced = lowered.program()
            compiled = traced.lower().compile(_options(mesh))
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        reason = str(error).partition("RESOURCE_EXHAUSTED: ")[2].partition("\n")[0]
        raise WhisfusionError(f"{lowered.what} does not fit {topology}: {reason}") from None
    seconds = time.perf_counter() - begin
    text = compiled.as_text()
    memory = compiled.memory_analysis()
    platform = mesh.devices.flat[0].platform
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
        work=work_of(traced.jaxpr, "cuda" if platform == "gpu" else platform),
        traffic=traffic_of(text),
        by_cudnn=text.count('custom_call_target="__cudnn$fmha'),
        compile_seconds=seconds,
        audio_seconds=lowered.audio_seconds,
    )


def _options(mesh: Mesh) -> dict[str, bool]:
    """Without a card Triton's products can't be tuned, and untuned ones may not compile."""
    on_gpus = mesh.devices.flat[0].platform == "gpu"
    return {"xla_gpu_enable_triton_gemm": False} if on_gpus else {}


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
