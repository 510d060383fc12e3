"""The mesh of devices, and which rows of a batch a process brings."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from whisfusion_jax.config import ROWS, MeshConfig
from whisfusion_jax.errors import WhisfusionError

AXES = ("data", "fsdp", "tensor")


def make_mesh(config: MeshConfig, devices: Sequence[Any] | None = None) -> Mesh:
    """Lay devices out; a process's own stand side by side.

    Args:
        devices: None is all there are, of every process.

    Raises:
        WhisfusionError: their number is not what the axes multiply to.
    """
    devices = jax.devices() if devices is None else devices
    copy = config.fsdp * config.tensor
    data = config.data or max(1, len(devices) // copy)
    if data * copy != len(devices):
        wanted = f"{config.data or 'n'} x {config.fsdp} x {config.tensor}"
        raise WhisfusionError(f"a mesh of {wanted} devices does not fit the {len(devices)} here")
    grid = np.array(devices).reshape(data, config.fsdp, config.tensor)
    return Mesh(grid, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def one_device() -> Mesh:
    """The mesh of the first device alone."""
    return make_mesh(MeshConfig(data=1), jax.local_devices()[:1])


def row_shards(mesh: Mesh) -> int:
    """Equal parts that a batch's rows fall into."""
    return math.prod(mesh.shape[axis] for axis in ROWS)


def by_rows(mesh: Mesh) -> NamedSharding:
    """Of arrays whose first axis is a batch's rows."""
    return NamedSharding(mesh, P(ROWS))


def replicated(mesh: Mesh) -> NamedSharding:
    """Of what every device has whole."""
    return NamedSharding(mesh, P())


@dataclass(frozen=True)
class Share:
    """Which of a batch's equal parts a process brings: [begin, end) of so many."""

    begin: int = 0
    end: int = 1
    of: int = 1

    def rows(self, batch: np.ndarray) -> np.ndarray:
        """Its part of a batch, [rows, ...], whose rows are a multiple of `of`."""
        size = len(batch) // self.of
        return batch[self.begin * size : self.end * size]


WHOLE = Share()


def own_share(mesh: Mesh) -> Share:
    """Of this process; processes whose devices work on the same rows bring the same."""
    shards = row_shards(mesh)
    grid = mesh.devices.reshape(shards, -1)
    own = [i for i, row in enumerate(grid) if any(_is_local(device) for device in row)]
    return Share(own[0], own[-1] + 1, shards)


def _is_local(device: Any) -> bool:
    return device.process_index == jax.process_index()


def place_rows(mesh: Mesh, batch: Any) -> Any:
    """A process's share of a batch to arrays of all rows, spread over the mesh."""
    sharding = by_rows(mesh)
    return jax.tree.map(
        lambda rows: jax.make_array_from_process_local_data(sharding, np.asarray(rows)), batch
    )


def own_axes(mesh: Mesh) -> set[str]:
    """The axes whose parts work alone: all; but where devices share rows, the compiler sees how."""
    return set(ROWS) if mesh.shape["tensor"] > 1 else set(mesh.axis_names)
