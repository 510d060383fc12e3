"""Requests in one queue: what fails, what is cancelled, what is refused."""

from collections.abc import Iterator
from itertools import count
from threading import Event
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from whisfusion_jax.errors import AudioError
from whisfusion_jax.serving.requests import BusyError, Requests
from whisfusion_jax.transcription.turns import Ask


class Fails:
    """A transcriber that gives lengths back; of one sample it breaks, of two nothing is audio."""

    def as_finished(self, asked: Any, patience: float) -> Iterator[tuple[int, Any]]:
        for number in count():
            if (ask := asked(True)) is None:
                return
            samples = ask.source
            if len(samples) == 1:
                raise MemoryError("no room")
            yield (
                number,
                AudioError("none") if len(samples) == 2 else SimpleNamespace(seconds=len(samples)),
            )


def test_who_comes_behind_a_failure_is_served() -> None:
    requests = Requests(Fails(), most=8, backlog=1, patience=0.01)  # type: ignore[arg-type]
    for _ in range(3):
        broken, fine = requests.ask(Ask(np.zeros(1))), requests.ask(Ask(np.zeros(5)))
        with pytest.raises(MemoryError):
            broken.result(10)
        assert fine.result(10).seconds == 5
    with pytest.raises(AudioError):
        requests.ask(Ask(np.zeros(2))).result(10)
    requests.close()
    assert requests.under_way == 0
    with pytest.raises(BusyError):
        requests.ask(Ask(np.zeros(5)))


class Waits:
    """A transcriber that writes nothing before it may."""

    def __init__(self) -> None:
        self.may = Event()

    def as_finished(self, asked: Any, patience: float) -> Iterator[tuple[int, Any]]:
        self.may.wait(10)
        return Fails().as_finished(asked, patience)


def test_places_and_hours_are_counted() -> None:
    transcriber = Waits()
    requests = Requests(transcriber, most=2, backlog=10, patience=0.01)  # type: ignore[arg-type]
    with requests.place():
        with requests.place(), pytest.raises(BusyError, match="2 requests"), requests.place():
            pass
        first = requests.ask(Ask(np.zeros(11 * 16_000)))  # alone it may be as long as any
        with pytest.raises(BusyError, match="11 s"):
            requests.ask(Ask(np.zeros(16_000)))
        transcriber.may.set()
        assert first.result(10).seconds == 11 * 16_000
        assert requests.ask(Ask(np.zeros(16_000))).result(10)
    assert requests.under_way == 0
    requests.close()
    with pytest.raises(BusyError), requests.place():
        pass
