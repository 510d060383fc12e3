"""Named tensors on disk: an Orbax checkpoint, written one by one, restored into any dtype.

A tensor may be stored in eight bits, as NAME and NAME_step; it comes back as their product.
"""

import asyncio
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from logging import CRITICAL, getLogger
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from etils import epath

from whisfusion_jax.errors import BundleError


@dataclass(frozen=True)
class Tensor:
    """A tensor that is loaded when its turn to be written comes."""

    shape: tuple[int, ...]
    dtype: np.dtype
    load: Callable[[], np.ndarray]

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def itemsize(self) -> int:
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        return self.size * self.itemsize

    @classmethod
    def of(cls, array: np.ndarray) -> "Tensor":
        return cls(array.shape, array.dtype, lambda: array)


_STEP = "_step"


def in_eight_bits(name: str, array: np.ndarray) -> dict[str, Tensor]:
    """A tensor as int8 multiples of a step, the largest that loses least.

    Each column of a kernel has a step of its own, each row of a table of embeddings. Vectors are
    kept in float16, whole numbers as they are.
    """
    if array.dtype.kind == "i":
        return {name: Tensor.of(array)}
    if array.ndim < 2:
        return {name: Tensor.of(array.astype(np.float16))}
    axis = (
        tuple(range(1, array.ndim)) if name.endswith("embedding") else tuple(range(array.ndim - 1))
    )
    step = np.maximum(np.abs(array).max(axis, keepdims=True) / 127, 1e-12).astype(np.float32)
    whole = np.round(array / step).astype(np.int8)
    return {name: Tensor.of(whole), name + _STEP: Tensor.of(step)}


class _OneByOne(ocp.type_handlers.NumpyHandler):
    """Writes each tensor to its end before the next is loaded.

    Orbax would copy the whole tree first, and so hold it in memory more than once.
    """

    async def serialize(
        self, values: Sequence[Any], infos: Sequence[Any], args: Sequence[Any] | None = None
    ) -> Sequence[Any]:
        args = args or [ocp.SaveArgs() for _ in values]
        for value, info, arg in zip(values, infos, args, strict=True):
            for future in await super().serialize([value.load()], [info], [arg]):
                await asyncio.to_thread(future.result)
        return []


def save_tensors(path: epath.Path, tensors: Mapping[str, Tensor], packed: bool = False) -> None:
    """Write tensors as an Orbax checkpoint that any Orbax reader restores as a flat dict.

    Memory stays at a few times the largest tensor, unless they are packed.

    Args:
        packed: into few files, where each tensor has a directory otherwise.
    """
    registry = ocp.type_handlers.create_type_handler_registry((Tensor, _OneByOne()))
    # Each write of one tensor by itself would leave an index of all behind in the packed form.
    tree = {name: t.load() if packed else t for name, t in tensors.items()}
    handler = (
        ocp.PyTreeCheckpointHandler(use_ocdbt=True, multiprocessing_options=_alone())
        if packed
        else ocp.PyTreeCheckpointHandler(
            use_ocdbt=False, type_handler_registry=registry, multiprocessing_options=_alone()
        )
    )
    # Orbax warns that it has no jax.Array to write and no OCDBT files to merge.
    with (
        _no_warnings(),
        ocp.Checkpointer(handler, multiprocessing_options=_alone()) as checkpointer,
    ):
        checkpointer.save(path, args=ocp.args.PyTreeSave(tree))


@contextmanager
def _no_warnings() -> Iterator[None]:
    """Only errors of Orbax are heard."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


def _alone() -> ocp.options.MultiprocessingOptions:
    """Each process reads by itself, and writes if it is asked to."""
    number, count = jax.process_index(), jax.process_count()
    if count == 1:
        return ocp.options.MultiprocessingOptions()
    return ocp.options.MultiprocessingOptions(
        primary_host=number, active_processes={number}, barrier_sync_key_prefix=f"alone{number}"
    )


@contextmanager
def strays_ignored() -> Iterator[None]:
    """Keep quiet what a failed read leaves behind.

    When one array can't be read, Orbax abandons the reads of the others, and each complains of its
    own whenever it ends. So after a failure this stays; after a success all is as before.
    """
    logger, hook = getLogger("asyncio"), sys.unraisablehook
    level = logger.level

    def others(unraisable: Any) -> None:
        abandoned = asyncio.iscoroutine(unraisable.object)
        if not abandoned and str(unraisable.exc_value) != "Event loop is closed":
            hook(unraisable)

    logger.setLevel(CRITICAL)
    sys.unraisablehook = others
    yield
    logger.setLevel(level)
    sys.unraisablehook = hook


def load_tensors(
    path: epath.Path, targets: Mapping[str, jax.ShapeDtypeStruct]
) -> dict[str, jax.Array]:
    """Restore exactly these tensors, cast to the targets' dtypes and put into their shardings.

    Targets without a sharding come onto the first device.

    Raises:
        BundleError: there is no checkpoint, or its tensors are not these.
    """
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    targets = {
        name: jax.ShapeDtypeStruct(t.shape, t.dtype, sharding=t.sharding or here)
        for name, t in targets.items()
    }
    handler = ocp.StandardCheckpointHandler(multiprocessing_options=_alone())
    with (
        strays_ignored(),
        ocp.Checkpointer(handler, multiprocessing_options=_alone()) as checkpointer,
    ):
        stored = _stored(path, checkpointer)
        steps = {name: stored.pop(name + _STEP) for name in targets if name + _STEP in stored}
        _check_same(path, stored, targets)
        wanted = {name: t for name, t in targets.items() if name not in steps}
        for name, step in steps.items():
            wanted[name] = jax.ShapeDtypeStruct(targets[name].shape, np.int8, sharding=here)
            wanted[name + _STEP] = jax.ShapeDtypeStruct(step.shape, np.float32, sharding=here)
        try:
            loaded = checkpointer.restore(path, args=ocp.args.StandardRestore(wanted))
        except Exception as error:  # Orbax wraps what TensorStore says in a bare one
            reason = str(error.__cause__ or error).strip().partition("\n")[0]
            loaded = None
        if loaded is None:
            # Raised out here, so that it doesn't keep the unfinished reads of others alive.
            raise BundleError(f"{path}: damaged ({reason})")
    for name in steps:
        # On the host: there would be a program to compile for each shape.
        whole, step = np.asarray(loaded[name]), np.asarray(loaded.pop(name + _STEP))
        product = (whole * step).astype(targets[name].dtype)
        loaded[name] = jax.device_put(product, targets[name].sharding)
    return loaded


def _stored(path: epath.Path, checkpointer: ocp.Checkpointer) -> dict[str, Any]:
    """What a checkpoint holds: metadata by name.

    Raises:
        BundleError: it is none.
    """
    with suppress(ValueError, OSError, KeyError), _no_warnings():
        if (stored := checkpointer.metadata(path).item_metadata) is not None:
            return dict(stored.items())
    raise BundleError(f"{path}: no Orbax checkpoint")


def _check_same(
    path: epath.Path, stored: Mapping[str, Any], targets: Mapping[str, jax.ShapeDtypeStruct]
) -> None:
    shapes = {name: tuple(leaf.shape) for name, leaf in stored.items()}
    wrong = [
        *(f"{name} is missing" for name in sorted(targets.keys() - shapes.keys())),
        *(f"{name} is not part of the model" for name in sorted(shapes.keys() - targets.keys())),
        *(
            f"{name} is {shapes[name]}, not {targets[name].shape}"
            for name in sorted(targets.keys() & shapes.keys())
            if shapes[name] != targets[name].shape
        ),
    ]
    if wrong:
        more = f" (and {len(wrong) - 3} more)" if len(wrong) > 3 else ""
        raise BundleError(f"{path}: {'; '.join(wrong[:3])}{more}")
