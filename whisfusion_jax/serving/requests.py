"""Requests of many clients at once, written in shared batches."""

import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count

from whisfusion_jax.audio.arrays import SAMPLE_RATE
from whisfusion_jax.errors import WhisfusionError
from whisfusion_jax.transcription.transcriber import Transcriber
from whisfusion_jax.transcription.transcript import Segment, Transcript
from whisfusion_jax.transcription.turns import Ask, Asked


class BusyError(WhisfusionError):
    """As many requests wait as may."""


OnSegment = Callable[[Segment], None]


@dataclass(frozen=True)
class _Waiting:
    """Who waits for a recording's text."""

    future: Future[Transcript]
    on_segment: OnSegment


class Requests:
    """Hands samples to a transcriber, whose one thread writes the windows of all in batches."""

    def __init__(
        self, transcriber: Transcriber, most: int, backlog: float, patience: float
    ) -> None:
        """Begin to write.

        Args:
            most: requests under way; further ones are refused.
            backlog: seconds of sound that are not written; further ones are refused, unless there
                are none.
            patience: seconds that a batch waits for others to fill it.
        """
        self._transcriber, self._most, self._patience = transcriber, most, patience
        self._backlog = int(backlog * SAMPLE_RATE)
        self._asked: queue.Queue[tuple[Ask, _Waiting] | None] = queue.Queue()
        self._writing: dict[int, _Waiting] = {}
        """Of the run that is under way, by number."""
        self.under_way = 0
        """Requests that are accepted and not answered."""
        self._unwritten = self._samples = self._run = 0
        """Recordings, and samples of them, that are not written; failed runs."""
        self._lock = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="writing", daemon=True)
        self._thread.start()

    @contextmanager
    def place(self) -> Iterator[None]:
        """For one request, from before its body is decoded until it is answered.

        Raises:
            BusyError: too many are under way, or all is being closed.
        """
        with self._lock:
            if self._closed or self.under_way >= self._most:
                raise BusyError(f"{self.under_way} requests are under way")
            self.under_way += 1
        try:
            yield
        finally:
            with self._lock:
                self.under_way -= 1

    def ask(
        self,
        ask: Ask,
        on_segment: OnSegment = lambda segment: None,
    ) -> Future[Transcript]:
        """Have a recording written; cancelled, it is read no further.

        Args:
            ask: of samples, [n] float32 at 16 kHz.
            on_segment: given each segment once it is written, in order, in a thread.

        Raises:
            BusyError: too much is to be written before, or all is being closed.
        """
        if self._samples and self._samples + len(ask.source) > self._backlog:
            raise BusyError(f"{self._samples / SAMPLE_RATE:.0f} s are to be written before")
        return self._accept(ask, on_segment)

    def hear(self, ask: Ask) -> Future[Transcript]:
        """Have what is said live written, before all others.

        Args:
            ask: of samples, likewise.

        Raises:
            BusyError: all is being closed.
        """
        return self._accept(replace(ask, urgent=True))

    def _accept(self, ask: Ask, on_segment: OnSegment = lambda segment: None) -> Future[Transcript]:
        future: Future[Transcript] = Future()
        with self._lock:
            if self._closed:
                raise BusyError("the server is being stopped")
            self._unwritten += 1
            self._samples += (samples := len(ask.source))
        future.add_done_callback(lambda _: self._leave(samples))
        ask = replace(ask, wanted=lambda: not future.cancelled())
        self._asked.put((ask, _Waiting(future, on_segment)))
        return future

    def close(self) -> None:
        """Finish what was accepted, and stop."""
        with self._lock:
            self._closed = True
        self._asked.put(None)
        self._thread.join()

    def _leave(self, samples: int) -> None:
        with self._lock:
            self._unwritten -= 1
            self._samples -= samples

    def _run_of(self, run: int) -> Asked:
        """What a run of the transcriber takes its recordings from."""
        numbers = count()

        def asked(wait: bool) -> Ask | None:
            while True:
                try:
                    taken = self._asked.get(block=wait)
                except queue.Empty:
                    return None
                with self._lock:
                    if run != self._run:  # it failed, and takes nothing
                        self._asked.put(taken)
                        return None
                    if taken is not None:
                        ask, self._writing[next(numbers)] = taken
                        return ask
                    self._asked.put(None)  # the end stays the last
                    if self._asked.qsize() == 1:
                        return None

        return asked

    def _work(self) -> None:
        while not self._closed or self._unwritten:
            asked = self._run_of(self._run)
            try:
                for number, found in self._transcriber.as_finished(asked, self._patience):
                    if isinstance(found, Segment):
                        self._writing[number].on_segment(found)
                    else:
                        _answer(self._writing.pop(number).future, found)
            except Exception as error:  # those who wait are told, and others are served
                with self._lock:
                    self._run += 1
                    failed, self._writing = self._writing, {}
                for waiting in failed.values():
                    _answer(waiting.future, error)
            else:
                return


def _answer(future: Future[Transcript], found: Transcript | Exception) -> None:
    if not future.set_running_or_notify_cancel():
        return
    if isinstance(found, Exception):
        future.set_exception(found)
    else:
        future.set_result(found)
