"""Being told to stop: SIGTERM, as schedulers send it before they kill."""

import signal
from types import FrameType, TracebackType
from typing import Any, Self

import jax
from jax.experimental import multihost_utils


class Stopping:
    """Notices the signal while it is entered, instead of dying of it."""

    def __init__(self) -> None:
        self._told = False
        self._before: Any = None

    def __enter__(self) -> Self:
        # Of many processes JAX's own service listens, so that all stop at the same step.
        if jax.process_count() == 1:
            self._before = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if jax.process_count() == 1:
            signal.signal(signal.SIGTERM, self._before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._told = True

    def asked(self, step: int) -> bool:
        """Whether to stop after this step; every process hears the same answer."""
        if jax.process_count() > 1:
            return bool(multihost_utils.reached_preemption_sync_point(step))
        return self._told
