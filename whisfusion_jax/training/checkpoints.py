"""Checkpoints of a run: train state and data iterator together, saved by Orbax."""

from pathlib import Path
from typing import Any

import grain
import jax
import orbax.checkpoint as ocp
from flax import nnx

from whisfusion_jax.bundle import named_variables
from whisfusion_jax.training.step import TrainState


class Checkpoints:
    """The newest few checkpoints of a run, by step."""

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self._manager = ocp.CheckpointManager(
            folder.absolute(), options=ocp.CheckpointManagerOptions(max_to_keep=keep, create=True)
        )

    def save(self, state: TrainState, iterator: grain.DatasetIterator) -> None:
        """Save in the background; the state may be changed at once."""
        self._manager.save(
            int(state.step),
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(_plain(state)),
                data=grain.checkpoint.CheckpointSave(iterator),
            ),
        )

    def restore(
        self, state: TrainState, iterator: grain.DatasetIterator
    ) -> tuple[TrainState, grain.DatasetIterator]:
        """The newest checkpoint, or what was given if there is none.

        Args:
            state: of the same shapes, dtypes and shardings; its values are not used.
            iterator: over the same data; it is put where the checkpoint stood.
        """
        newest = self._manager.latest_step()
        if newest is None:
            return state, iterator
        targets = jax.tree.map(ocp.utils.to_shape_dtype_struct, _plain(state))
        restored = self._manager.restore(
            newest,
            args=ocp.args.Composite(
                state=ocp.args.StandardRestore(targets),
                data=grain.checkpoint.CheckpointRestore(iterator),
            ),
        )
        return _filled(state, restored["state"]), restored["data"]

    def close(self) -> None:
        """Wait until everything is written."""
        self._manager.wait_until_finished()
        self._manager.close()


def _plain(state: TrainState) -> dict[str, Any]:
    """Flat dicts of arrays by name, readable without flax."""
    leaves = jax.tree.leaves(state.optimizer)
    return {
        "step": state.step,
        "learned": _values(state.learned),
        "average": _values(state.average),
        "optimizer": {f"{number:05}": leaf for number, leaf in enumerate(leaves)},
    }


def _values(parameters: nnx.State) -> dict[str, jax.Array]:
    return {name: variable[...] for name, variable in named_variables(parameters).items()}


def _filled(state: TrainState, plain: dict[str, Any]) -> TrainState:
    """Inverse of `_plain`, in the structure of `state`."""
    leaves = [plain["optimizer"][name] for name in sorted(plain["optimizer"])]
    return TrainState(
        plain["step"],
        _with_values(state.learned, plain["learned"]),
        _with_values(state.average, plain["average"]),
        jax.tree.unflatten(jax.tree.structure(state.optimizer), leaves),
    )


def _with_values(parameters: nnx.State, values: dict[str, jax.Array]) -> nnx.State:
    filled = jax.tree.map(lambda leaf: leaf, parameters)
    for name, variable in named_variables(filled).items():
        variable.set_value(values[name])
    return filled
