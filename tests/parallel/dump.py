"""Restore a run's newest checkpoint onto meshes, and write every array of it down for each.

python -m tests.parallel.dump CONFIG FOLDER DATAxFSDP[,DATAxFSDP] [--FIELD VALUE ...]
"""

import sys
from pathlib import Path

import jax
import numpy as np
import tyro
from jax.sharding import Mesh

from whisfusion_jax.bundle import Bundle
from whisfusion_jax.config import MeshConfig, TrainConfig, read_config
from whisfusion_jax.parallel.mesh import make_mesh
from whisfusion_jax.parallel.processes import join_processes
from whisfusion_jax.parallel.sharding import gathered, name_of
from whisfusion_jax.training.checkpoints import checkpoints_of
from whisfusion_jax.training.setup import begin, make_optimizer


class Place:
    """Stands for the data's iterator."""

    def set_state(self, state: dict) -> None:
        self.state = state


def dump(config: TrainConfig, mesh: Mesh, out: Path) -> None:
    optimizer = make_optimizer(config.optimizer, config.steps)
    begun = begin(config, Bundle.open(config.bundle), optimizer, mesh)
    with checkpoints_of(config) as saved:
        state = saved.restore(begun.state, Place())
    leaves = jax.tree_util.tree_leaves_with_path(state)
    arrays = {name_of(path): gathered(leaf) for path, leaf in leaves}
    if jax.process_index() == 0:
        np.savez(out, **arrays)


def main(config: TrainConfig, folder: Path, meshes: str) -> None:
    join_processes(config.processes)
    for name in meshes.split(","):
        data, fsdp = map(int, name.split("x"))
        mesh = make_mesh(MeshConfig(data, fsdp), jax.devices()[: data * fsdp])
        dump(config, mesh, folder / f"{name}.npz")


if __name__ == "__main__":
    path, folder, meshes, *rest = sys.argv[1:]
    main(tyro.cli(TrainConfig, default=read_config(Path(path)), args=rest), Path(folder), meshes)
