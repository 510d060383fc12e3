"""Checkpoints of a run, by Orbax: train state, place in the data, config.

Every process writes the parts of the state that it has; a checkpoint is restored onto any mesh and
any number of processes.
"""

import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import grain
import jax
import orbax.checkpoint as ocp
from flax import nnx
from orbax.checkpoint.checkpoint_managers import preservation_policy

from whisfusion_jax.bundle import named_variables
from whisfusion_jax.config import TrainConfig
from whisfusion_jax.errors import WhisfusionError
from whisfusion_jax.places import in_bucket, place
from whisfusion_jax.storage import strays_ignored
from whisfusion_jax.training.step import TrainState


class Checkpoints:
    """The newest few checkpoints of a run, and the one with the fewest errors."""

    def __init__(self, config: TrainConfig, say: Callable[[str], None] = print) -> None:
        """Open the run's, or make room for them.

        Args:
            say: told of checkpoints that can't be used.

        Raises:
            WhisfusionError: nothing can be saved there.
        """
        self._folder, self._say = place(config.work) / "checkpoints", say
        if str(self._folder).startswith("s3://"):
            raise WhisfusionError(
                f"{config.work}: Orbax saves to gs:// or a file system, not to s3://; mount it"
            )
        self._config = json.loads(json.dumps(dataclasses.asdict(config), default=str))
        policy = preservation_policy.AnyPreservationPolicy(
            [
                preservation_policy.LatestN(config.keep),
                preservation_policy.BestN(
                    n=1,
                    get_metric_fn=lambda scores: scores["dev/wer"],
                    reverse=True,
                    keep_checkpoints_without_metrics=False,
                ),
            ]
        )
        with self._errors():
            self._manager = ocp.CheckpointManager(
                self._folder if in_bucket(self._folder) else self._folder.absolute(),
                options=ocp.CheckpointManagerOptions(preservation_policy=policy),
                item_handlers={
                    "state": ocp.StandardCheckpointHandler(),
                    "data": ocp.JsonCheckpointHandler(),
                    "config": ocp.JsonCheckpointHandler(),
                },
            )

    def save(
        self, state: TrainState, iterator: grain.DatasetIterator, scores: Mapping[str, float]
    ) -> None:
        """Save in the background; the state may be changed at once.

        Raises:
            WhisfusionError: this or the one before can't be written.
        """
        with self._errors():
            self._manager.save(
                int(state.step),
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(_plain(state)),
                    data=ocp.args.JsonSave(iterator.get_state()),
                    config=ocp.args.JsonSave(self._config),
                ),
                metrics=dict(scores) or None,
            )

    def restore(self, state: TrainState, iterator: grain.DatasetIterator) -> TrainState:
        """The newest checkpoint that can be read, or what was given if there is none.

        Checkpoints that are damaged are named and put aside.

        Args:
            state: of the same shapes and dtypes, in the shardings to restore to.
            iterator: over the same data; it is put where the checkpoint stood.

        Raises:
            WhisfusionError: checkpoints are of another model, or none of them can be read.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        for step in steps:
            try:
                with strays_ignored():
                    restored = self._read(step, state)
            except WhisfusionError:
                raise
            except Exception as error:  # whatever Orbax and TensorStore find wrong
                self._put_aside(step, error)
                continue
            iterator.set_state(restored["data"])
            return _filled(state, restored["state"])
        if steps:
            raise WhisfusionError(f"{self._folder}: no checkpoint can be read; all are put aside")
        return state

    def _read(self, step: int, state: TrainState) -> Any:
        targets = jax.tree.map(ocp.utils.to_shape_dtype_struct, _plain(state))
        stored = self._manager.item_metadata(step)["state"]
        if stored is None:
            raise OSError("its description is missing")
        wanted, found = (_shapes(tree) for tree in (targets, stored))
        if wanted != found:
            name = sorted(wanted.items() ^ found.items())[0][0]
            raise WhisfusionError(
                f"{self._folder}/{step}: a checkpoint of another model ({name} is "
                f"{found.get(name)}, not {wanted.get(name)}); use another --work"
            )
        return self._manager.restore(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardRestore(targets), data=ocp.args.JsonRestore()
            ),
        )

    def _put_aside(self, step: int, error: Exception) -> None:
        reason = str(error.__cause__ or error).strip().partition("\n")[0]
        aside = self._folder.with_name(f"damaged-checkpoint-{step}")
        self._say(f"checkpoint {step} is damaged ({reason:.200}); moved to {aside}")
        if jax.process_index() == 0:
            (self._folder / str(step)).rename(aside)
        if jax.process_count() > 1:
            # The others may have read theirs, and would go on with another step.
            raise WhisfusionError(f"checkpoint {step} is damaged and put aside; start again")
        self._manager.reload()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = error.strerror or str(error)
        except ValueError as error:  # TensorStore's
            reason = str(error)
        else:
            return
        reason = reason.strip().partition("\n")[0]
        raise WhisfusionError(f"{self._folder}: can't save ({reason}); earlier checkpoints stay")

    def close(self) -> None:
        """Wait until everything is written.

        Raises:
            WhisfusionError: something can't be.
        """
        try:
            with self._errors():
                self._manager.wait_until_finished()
        finally:
            self._manager.close()


@contextlib.contextmanager
def checkpoints_of(
    config: TrainConfig, say: Callable[[str], None] = print
) -> Iterator[Checkpoints]:
    """A run's checkpoints; at the end everything is written."""
    checkpoints = Checkpoints(config, say)
    try:
        yield checkpoints
    except BaseException:
        # What goes wrong in writing must not hide what went wrong before.
        with contextlib.suppress(WhisfusionError):
            checkpoints.close()
        raise
    checkpoints.close()


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): tuple(leaf.shape)
        for path, leaf in leaves
    }


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
