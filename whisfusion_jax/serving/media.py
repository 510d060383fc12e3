"""Strangers' recordings to samples, in processes of their own: what breaks one is one request."""

import contextlib
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from whisfusion_jax.errors import AudioError, WhisfusionError
from whisfusion_jax.serving.media_worker import HEADER, PART, ReplyKind, read_exactly


class TooLongError(WhisfusionError):
    """A recording is longer than it may be."""


class Media:
    """Processes that decode, each one recording at a time, with little memory and time."""

    def __init__(
        self, processes: int, seconds: float, patience: float, streams: int, strict: bool = False
    ) -> None:
        """Start them, and one that waits for the next stream.

        Args:
            processes: recordings that are decoded at once; further ones wait.
            seconds: of a recording, at most.
            patience: seconds that decoding one may take.
            streams: recordings that are decoded as they come, at most; each has its own process.
            strict: refuse damaged recordings; otherwise what is in them is given.
        """
        self._seconds, self._patience, self._strict = seconds, patience, strict
        self._threads = ThreadPoolExecutor(processes, "decoding")
        self._idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        for _ in range(processes):
            self._idle.put(_Worker())
        self._streams, self._next = threading.Semaphore(streams), _Worker()

    def decode(self, body: bytes) -> Future[np.ndarray]:
        """A recording's samples: [n] float32 at 16 kHz.

        Its errors: AudioError (it can't be read), TooLongError.
        """
        return self._threads.submit(self._decode, body)

    def stream(self, on_samples: Callable[[np.ndarray], None]) -> "MediaStream":
        """Decode a container while it comes.

        Args:
            on_samples: given [n] float32 at 16 kHz, in a thread.

        Raises:
            WhisfusionError: as many are decoded as may be.
        """
        if not self._streams.acquire(blocking=False):
            raise WhisfusionError("too many streams are decoded")
        worker, self._next = self._next, _Worker()
        return MediaStream(worker, self._seconds, on_samples, self._streams.release)

    def close(self) -> None:
        """End all processes; what is being decoded is finished."""
        self._threads.shutdown()
        while not self._idle.empty():
            self._idle.get().close()
        self._next.close()

    def _decode(self, body: bytes) -> np.ndarray:
        worker = self._idle.get()
        worker.wait()
        timer = threading.Timer(self._patience, worker.kill)
        timer.start()
        try:
            worker.send(HEADER.pack(b"w", self._seconds, self._strict))
            worker.send_part(body)
            worker.send(PART.pack(0))
            return np.concatenate([np.zeros(0, np.float32), *worker.samples()])
        finally:
            timer.cancel()
            if worker.spent:
                worker.close()
                worker = _Worker()
            self._idle.put(worker)


class MediaStream:
    """A container that is decoded while it comes."""

    def __init__(
        self,
        worker: "_Worker",
        seconds: float,
        on_samples: Callable[[np.ndarray], None],
        on_end: Callable[[], None],
    ) -> None:
        self._worker, self._on_samples, self._on_end = worker, on_samples, on_end
        worker.send(HEADER.pack(b"s", seconds, False))
        self._ended: Future[None] = Future()
        self._reader = threading.Thread(target=self._read, name="decoding", daemon=True)
        self._reader.start()

    def add(self, part: bytes) -> None:
        """The next part of it; raises AudioError, TooLongError as soon as it can't go on."""
        if self._ended.done():
            self._ended.result()
            return
        self._worker.send_part(part)

    def end(self) -> None:
        """All of it has come: what is in it is given before this returns. Raises as `add` does."""
        if not self._ended.done():
            self._worker.send(PART.pack(0))
        self._ended.result()

    def close(self) -> None:
        """Nobody wants more of it."""
        self._worker.kill()
        self._reader.join()
        self._worker.close()
        self._on_end()

    def _read(self) -> None:
        try:
            self._worker.wait()
            for samples in self._worker.samples():
                self._on_samples(samples)
        except WhisfusionError as error:
            self._ended.set_exception(error)
        else:
            self._ended.set_result(None)


class _Worker:
    """A process of `media_worker`."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "whisfusion_jax.serving.media_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._busy = self._starting = True

    def wait(self) -> None:
        """Until it has started."""
        if self._starting:
            with contextlib.suppress(AudioError):  # it has died, as its next answer says
                list(self.samples())
            self._starting = False

    @property
    def spent(self) -> bool:
        """It has died, or is in the middle of a recording that nobody wants any more."""
        return self._busy or self._process.poll() is not None

    def send(self, data: bytes) -> None:
        """What it is to read; one that has died says so where its answer is read."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.write(data)
            self._process.stdin.flush()

    def send_part(self, part: bytes) -> None:
        """A recording's next part; none is no end."""
        if part:
            self.send(PART.pack(len(part)) + part)

    def samples(self) -> Iterator[np.ndarray]:
        """What it answers, up to the end of one recording: each [n] float32."""
        assert self._process.stdout is not None
        self._busy = True
        while True:
            head = read_exactly(self._process.stdout, ReplyKind.HEADER.size)
            kind, length = ReplyKind.HEADER.unpack(head) if head else (b"", 0)
            data = read_exactly(self._process.stdout, length)
            if kind == ReplyKind.SAMPLES:
                yield np.frombuffer(data, np.float32)
            elif kind == ReplyKind.ERROR:
                self._busy = False
                raise AudioError(data.decode())
            elif kind == ReplyKind.TOO_LONG:
                self._busy = False
                raise TooLongError(data.decode())
            elif kind == ReplyKind.END:
                self._busy = False
                return
            else:
                raise AudioError("not readable as audio (decoding it took too much)")

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """End it; nobody reads what it said."""
        self.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):  # what was never read
                if pipe is not None:
                    pipe.close()
