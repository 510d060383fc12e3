"""Requests of many clients at once, written in shared batches."""

import queue
import threading
from collections.abc import Iterator
from concurrent.futures import Future

import numpy as np

from whisfusion_jax.errors import WhisfusionError
from whisfusion_jax.transcription.transcriber import Transcriber
from whisfusion_jax.transcription.transcript import Transcript


class BusyError(WhisfusionError):
    """As many requests wait as may."""


class Requests:
    """Hands samples to a transcriber, whose one thread writes the windows of all in batches."""

    def __init__(self, transcriber: Transcriber, most: int, patience: float) -> None:
        """Begin to write.

        Args:
            most: requests under way; further ones are refused.
            patience: seconds that a batch waits for others to fill it.
        """
        self._transcriber, self._most, self._patience = transcriber, most, patience
        self._asked: queue.Queue[tuple[np.ndarray, str | None, Future[Transcript]] | None]
        self._asked = queue.Queue()
        self._writing: dict[int, Future[Transcript]] = {}
        """Of the run that is under way, by number."""
        self._under_way = self._run = 0
        self._lock = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="writing", daemon=True)
        self._thread.start()

    @property
    def under_way(self) -> int:
        """Requests that are accepted and not answered."""
        return self._under_way

    def ask(self, samples: np.ndarray, language: str | None = None) -> Future[Transcript]:
        """Accept a recording; cancelled before its turn, it costs nothing.

        Args:
            samples: [n] float32 at 16 kHz.

        Raises:
            BusyError: too many are under way, or this one comes when all is being closed.
        """
        future: Future[Transcript] = Future()
        with self._lock:
            if self._closed or self._under_way >= self._most:
                raise BusyError(f"{self._under_way} requests are under way")
            self._under_way += 1
        future.add_done_callback(self._leave)
        self._asked.put((samples, language, future))
        return future

    def close(self) -> None:
        """Finish what was accepted, and stop."""
        with self._lock:
            self._closed = True
        self._asked.put(None)
        self._thread.join()

    def _leave(self, _: Future[Transcript]) -> None:
        with self._lock:
            self._under_way -= 1

    def _sources(self, run: int) -> Iterator[tuple[np.ndarray, str | None]]:
        number = 0
        while True:
            asked = self._asked.get()
            with self._lock:
                if run != self._run:  # a run that failed left its reader waiting here
                    self._asked.put(asked)
                    return
                if asked is None:
                    return
                samples, language, future = asked
                if future.cancelled():
                    continue
                self._writing[number] = future
                number += 1
            yield samples, language

    def _work(self) -> None:
        while not self._closed or self._under_way:
            sources = self._sources(self._run)
            try:
                for number, found in self._transcriber.as_finished(sources, self._patience):
                    _answer(self._writing.pop(number), found)
            except Exception as error:  # those who wait are told, and others are served
                with self._lock:
                    self._run += 1
                    failed, self._writing = self._writing, {}
                for future in failed.values():
                    _answer(future, error)
            else:
                return


def _answer(future: Future[Transcript], found: Transcript | Exception) -> None:
    if not future.set_running_or_notify_cancel():
        return
    if isinstance(found, Exception):
        future.set_exception(found)
    else:
        future.set_result(found)
