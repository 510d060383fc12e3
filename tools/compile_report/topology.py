"""Devices that are not here, as the compilers know them."""

import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from jax.experimental import topologies

from whisfusion_jax.errors import WhisfusionError


@dataclass(frozen=True)
class Gpu:
    """What XLA's compiler asks of a card."""

    name: str
    """As its driver says."""
    capability: int
    cores: int
    """Streaming multiprocessors."""
    units: int
    """For float32, of each core."""
    clock: float
    """GHz."""
    memory: int
    """Bytes."""
    bandwidth: int
    """Bytes a second."""
    cache: int
    """Bytes of the second level."""
    shared: int
    """Bytes of memory that a core's threads share."""
    shared_by_block: int
    """Bytes of it that one block may have."""

    def target(self) -> str:
        """XLA's GpuTargetConfigProto, as text."""
        return f"""
            gpu_device_info {{
              threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048
              thread_dim_limit_x: 1024 thread_dim_limit_y: 1024 thread_dim_limit_z: 64
              block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
              registers_per_core_limit: 65536 registers_per_block_limit: 65536
              shared_memory_per_block: 49152 shared_memory_per_core: {self.shared}
              shared_memory_per_block_optin: {self.shared_by_block}
              core_count: {self.cores} fpus_per_core: {self.units} clock_rate_ghz: {self.clock}
              l2_cache_size: {self.cache} memory_bandwidth: {self.bandwidth}
              device_memory_size: {self.memory}
              cuda_compute_capability {{ major: {self.capability} }}
            }}
            platform_name: "CUDA"
            dnn_version_info {{ major: 9 minor: 8 }}
            runtime_version {{ major: 13 }}
            device_description_str: "{self.name}"
        """


GPUS = {
    # openxla/xla, xla/backends/gpu/target_config/specs: h100_sxm, h200, a100_sxm_80.
    "h100": Gpu(
        "NVIDIA H100 80GB HBM3", 9, 132, 128, 1.98,
        84_942_979_072, 3_352_320_000_000, 52_428_800, 233_472, 232_448,
    ),
    "h200": Gpu(
        "NVIDIA H200 141GB HBM3e", 9, 132, 128, 1.98,
        151_397_597_184, 4_800_000_000_000, 52_428_800, 233_472, 232_448,
    ),
    "a100": Gpu(
        "NVIDIA A100-SXM4-80GB", 8, 108, 64, 1.41,
        85_100_068_864, 2_039_040_000_000, 41_943_040, 167_936, 166_912,
    ),
}  # fmt: skip


def devices_of(topology: str) -> Sequence[Any]:
    """The devices of a topology that need not be here.

    Args:
        topology: such as v5e:4x4, h100:8 (of one host), h100:4x8 (hosts of eight), cpu:8.

    Raises:
        WhisfusionError: there is no such topology, or no compiler for it.
    """
    kind, _, shape = topology.partition(":")
    if kind == "cpu" and shape.isdigit():
        jax.config.update("jax_num_cpu_devices", int(shape))
        return jax.devices("cpu")
    jax.config.update("jax_platforms", "cpu")
    needed = "the packages of docs/running_at_scale.md" if kind in GPUS else "`pip install libtpu`"
    try:
        return _gpus(GPUS[kind], shape) if kind in GPUS else _tpus(topology)
    except Exception as error:  # whatever the compiler's library says
        reason = str(error).strip().partition("\n")[0]
        raise WhisfusionError(
            f"topology {topology}: {reason:.200} (such as v5e:4x4 or h100:8, with {needed})"
        ) from None


def _tpus(topology: str) -> Sequence[Any]:
    # libtpu would ask the cloud what machine this is.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    return topologies.get_topology_desc(topology, "tpu").devices


def _gpus(gpu: Gpu, shape: str) -> Sequence[Any]:
    hosts, _, each = shape.rpartition("x")
    # There is no driver whose version could be asked.
    os.environ.setdefault("JAX_SKIP_CUDA_CONSTRAINTS_CHECK", "1")
    _find_assembler()
    return topologies.get_topology_desc(
        gpu.name,
        "cuda",
        target_config=gpu.target(),
        # Partitions, hosts of each, devices of each host.
        topology=f"1x{int(hosts or 1)}x{int(each)}",
    ).devices


def _find_assembler() -> None:
    """XLA looks for `ptxas` on the PATH; the package index's lies beside the other packages."""
    for package in _places("nvidia"):
        os.environ["PATH"] += f"{os.pathsep}{Path(package) / 'cu13' / 'bin'}"


def _places(package: str) -> Sequence[str]:
    """A package's directories, of several distributions."""
    found = importlib.util.find_spec(package)
    return list(found.submodule_search_locations or ()) if found else []
