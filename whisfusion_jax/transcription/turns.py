"""Recordings of many who ask at once, read in turns, so that a long one holds no short one up."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

from whisfusion_jax.text.tokenizer import Task
from whisfusion_jax.transcription.fixing import Known


def _always() -> bool:
    return True


@dataclass(frozen=True, eq=False)
class Ask:
    """A recording that somebody waits for."""

    source: Any
    """As `Transcriber.transcribe` takes it."""
    language: str | None = None
    task: Task | None = None
    """None is the transcriber's own."""
    standing: tuple[int, ...] | None = None
    """Tokens that its first window's text begins with, to write on from; not by `ar`."""
    earlier: tuple[int, ...] = ()
    """Tokens of a text that it is written as if it followed (`Prompts.earlier`)."""
    fix: tuple[Known, ...] = ()
    """Words that are known to be said, beside the transcriber's own; not by `ar`."""
    urgent: bool = False
    """Its windows go first."""
    wanted: Callable[[], bool] = _always
    """Whether anybody waits yet; otherwise it is read no further."""


Asked = Callable[[bool], Ask | None]
"""Gives the next; None where nobody asks just now, or, if it was told to wait, at the end."""

Item = TypeVar("Item")


def in_turns(opened: Callable[[bool], Iterator[Item] | None]) -> Iterator[Item]:
    """One item of each that is open in turn, and of new ones first.

    Args:
        opened: gives the next to open, as `Asked` gives what is asked.
    """
    turns: deque[Iterator[Item]] = deque()
    while True:
        new: list[Iterator[Item]] = []
        while (one := opened(not turns and not new)) is not None:
            new.append(one)
        turns.extendleft(reversed(new))
        if not turns:
            return
        one = turns.popleft()
        for item in islice(one, 1):
            yield item
            turns.append(one)
