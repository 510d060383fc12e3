"""Windows of many recordings into batches of like length, and their texts back in order."""

import math
import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from whisfusion_jax.transcription.pieces import Kind, Piece, Recording
from whisfusion_jax.transcription.transcript import Segment

_PATIENCE_SECONDS = 1.0
"""How long a batch waits to become full while nothing can be read."""
_LET_BEFORE = 2
"""Later recordings that go before each further window of one."""


@dataclass(frozen=True)
class BatchSize:
    """How much is recognised at once, by each part of a mesh."""

    windows: int
    """At most."""
    seconds: float = math.inf
    """Of sound, at most, as windows are padded: a server's next request waits so long; but a window
    at least."""
    shards: int = 1
    """Parts of the mesh."""

    @property
    def most(self) -> int:
        """Windows of the largest batch."""
        return self.shards * self.windows

    def of(self, bucket: int) -> int:
        """Windows, padded to so many seconds, of a full batch."""
        return self.shards * max(1, int(min(self.windows, self.seconds // bucket)))


class Hearing(Protocol):
    """What is being heard in a batch, beside what the others do."""

    def cancel(self) -> Any:
        """Nobody waits for it any more."""


Heard = TypeVar("Heard", bound=Hearing)


def in_batches(
    read: Iterable[Piece | Recording],
    hear: Callable[[Sequence[Piece]], Heard],
    write: Callable[[Sequence[Piece], Heard], Iterable[Piece]],
    size: BatchSize,
    hears_language: bool,
    in_order: bool = True,
    patience: float = _PATIENCE_SECONDS,
) -> Iterator[tuple[Recording, Segment | None]]:
    """Recognise what is read, in batches: one is heard while the one before is written.

    A full batch goes first; else, once a few batches' worth of windows wait or no more can be read
    for the moment, those of the one that waited longest. Without an order recordings take turns:
    urgent ones first, and each further window of one lets two later ones go before it.

    Args:
        read: each recording's pieces in order, then itself; it is read in a thread, no more than a
            few batches ahead.
        hear: begins to hear pieces of one kind, and doesn't wait.
        write: fills in their segments; gives what is to be written again instead.
        size: of the batches.
        hears_language: a recording's first window is to name its language for the others.
        in_order: else each recording is yielded once it is finished, whatever stands before it.
        patience: seconds that a batch waits to become full while nothing can be read.

    Yields:
        segments of the first recording in order, each as soon as it is there, then None, and so on;
        without an order those of all that are under way.
    """
    waiting: dict[Kind, list[Piece]] = {}
    place = _place if in_order else _turn
    ahead = (3 if in_order else 4) * size.most
    """Windows that may wait for others of their kind."""
    queued = (4 if in_order else 1) * size.most
    order: deque[Recording] = deque()
    held: dict[Recording, list[Piece]] = {}
    heard: tuple[list[Piece], Heard] | None = None
    """The batch that is written next."""

    def add(piece: Piece) -> None:
        if piece.number == 0:
            order.append(piece.recording)
            if hears_language and piece.recording.language is None:
                held[piece.recording] = []
        elif piece.recording in held:
            held[piece.recording].append(piece)
            return
        waiting.setdefault(piece.kind, []).append(piece)

    def next_batch(least: int) -> list[Piece]:
        """Empty, unless more than so many pieces wait, or a batch is full and may go first."""
        full = [
            kind
            for kind, pieces in waiting.items()
            if in_order and len(pieces) >= size.of(kind.bucket)
        ]
        if not full and sum(map(len, waiting.values())) <= least:
            return []
        first = min((each for kind in full or waiting for each in waiting[kind]), key=place)
        pieces = sorted(waiting.pop(first.kind), key=place)
        most = size.of(first.bucket)
        if pieces[most:]:
            waiting[first.kind] = pieces[most:]
        return pieces[:most]

    def work(least: int) -> bool:
        """Recognise a batch, if there is one; each, if none may wait."""
        nonlocal heard
        batch = next_batch(least)
        if not batch and not (heard and not least):
            return False
        before, heard = heard, (batch, hear(batch)) if batch else None
        if before is not None:
            for piece in write(*before):
                waiting.setdefault(piece.kind, []).append(piece)
            for piece in before[0]:
                for other in held.pop(piece.recording, ()):
                    add(other)
        return True

    def ready() -> Iterator[tuple[Recording, Segment | None]]:
        for recording in list(order):
            while recording.given in recording.segments:
                for segment in recording.segments[recording.given]:
                    yield recording, segment
                recording.given += 1
            if recording.finished:
                # What can't be read any further has left these waiting to be stitched.
                for number in sorted(recording.written):
                    for segment in recording.written[number]:
                        yield recording, segment
                order.remove(recording)
                yield recording, None
            elif in_order:
                return

    try:
        for item in read_ahead(read, queued, patience, lambda: bool(waiting or heard)):
            if isinstance(item, Piece):
                add(item)
            elif item is not None and not item.windows:
                order.append(item)
            # Without an order who comes meanwhile is looked at behind each batch.
            while work(least=0 if item is None else ahead) and in_order:
                pass
            yield from ready()
        while work(least=0):
            pass
        yield from ready()
    finally:
        if heard:
            heard[1].cancel()


def _place(piece: Piece) -> tuple[int, int]:
    return piece.recording.number, piece.number


def _turn(piece: Piece) -> tuple[bool, int, int]:
    """Each window lets some later recordings go first, and no more: a long one ends, too."""
    recording = piece.recording
    return not recording.urgent, recording.number + _LET_BEFORE * piece.number, piece.number


@dataclass(frozen=True)
class _End:
    """Behind the last item."""

    error: Exception | None


Item = TypeVar("Item")


def read_ahead(
    items: Iterable[Item],
    most: int,
    patience: float,
    busy: Callable[[], bool] = lambda: False,
) -> Generator[Item | None, None, None]:
    """Items that a thread reads, at most so many ahead.

    Args:
        busy: whether there is something to do without a next one.

    Yields:
        None where there is no next one after so many seconds, as long as there is something to do,
        and once.
    """
    ready: queue.Queue[Item | _End] = queue.Queue(most)
    left = threading.Event()

    def put(item: Item | _End) -> None:
        while not left.is_set():
            try:
                ready.put(item, timeout=0.1)
            except queue.Full:
                continue
            return

    def read() -> None:
        error: Exception | None = None
        try:
            for item in items:
                put(item)
                if left.is_set():
                    return
        except Exception as raised:  # whatever it is, it is raised again where it is waited for
            error = raised
        put(_End(error))

    thread = threading.Thread(target=read, name="reading", daemon=True)
    thread.start()
    try:
        while True:
            try:
                item = ready.get(timeout=patience)
            except queue.Empty:
                yield None
                if busy():
                    continue
                item = ready.get()
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            yield item
    finally:
        left.set()
        # One that waits for standard input must hold nobody up.
        thread.join(timeout=1)
