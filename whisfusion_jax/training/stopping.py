"""Being told to stop: SIGTERM, as schedulers send it before they kill."""

import contextlib
import signal
from collections.abc import Callable, Iterator

import jax
from jax.experimental import multihost_utils


@contextlib.contextmanager
def told_to_stop() -> Iterator[Callable[[int], bool]]:
    """Notice the signal, instead of dying of it.

    Yields:
        whether to stop after a step; every process hears the same answer.
    """
    if jax.process_count() > 1:
        # JAX's own service listens, so that all stop at the same step.
        yield lambda step: bool(multihost_utils.reached_preemption_sync_point(step))
        return
    told: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: told.append(number))
    try:
        yield lambda step: bool(told)
    finally:
        signal.signal(signal.SIGTERM, before)
