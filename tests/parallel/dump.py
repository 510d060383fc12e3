"""Restore a run's newest checkpoint onto this process's mesh, and write every array of it down.

python -m tests.parallel.dump CONFIG OUT.npz [--FIELD VALUE ...]
"""

import sys
from pathlib import Path

import jax
import numpy as np
import tyro

from whisfusion_jax.bundle import Bundle
from whisfusion_jax.config import TrainConfig, read_config
from whisfusion_jax.parallel.mesh import make_mesh
from whisfusion_jax.parallel.processes import join_processes
from whisfusion_jax.parallel.sharding import gathered, name_of
from whisfusion_jax.training.checkpoints import checkpoints_of
from whisfusion_jax.training.setup import begin, make_optimizer


class Place:
    """Stands for the data's iterator."""

    def set_state(self, state: dict) -> None:
        self.state = state


def main(config: TrainConfig, out: str) -> None:
    join_processes(config.processes)
    mesh = make_mesh(config.mesh)
    optimizer = make_optimizer(config.optimizer, config.steps)
    begun = begin(config, Bundle.open(config.bundle), optimizer, mesh)
    with checkpoints_of(config) as saved:
        state = saved.restore(begun.state, Place())
    leaves = jax.tree_util.tree_leaves_with_path(state)
    arrays = {name_of(path): gathered(leaf) for path, leaf in leaves}
    if jax.process_index() == 0:
        np.savez(out, **arrays)


if __name__ == "__main__":
    path, out, *rest = sys.argv[1:]
    main(tyro.cli(TrainConfig, default=read_config(Path(path)), args=rest), out)
