"""Progress bars on standard error, for long work."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from whisfusion_jax.audio.read import length_of

info = Console(stderr=True, highlight=False)
"""For people; the transcripts alone go to standard output."""


def progress_bar(shown: bool = True) -> Progress:
    """A bar with the time left, on standard error; none where that is no terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        **_on_terminal(shown),
    )


def _on_terminal(shown: bool = True) -> dict[str, Any]:
    """How bars are shown on standard error."""
    # What is printed meanwhile must not go the bar's way where standard output is no terminal.
    return {
        "console": info,
        "transient": True,
        "redirect_stdout": sys.stdout.isatty(),
        "disable": not (shown and info.is_terminal),
    }


class AudioBar:
    """How much audio is transcribed, of all that the files' headers promise."""

    def __init__(self, progress: Progress, files: Sequence[str]) -> None:
        self._progress, self._files, self._number = progress, len(files), 0
        self._before = 0.0
        shown = not progress.disable
        self._lengths = [length_of(file) if shown else 0.0 for file in files]
        self._task = progress.add_task("", total=sum(self._lengths) or None, minutes="")
        self(0.0)

    def __call__(self, seconds: float) -> None:
        """So much of the file is transcribed."""
        done = self._before + seconds
        which = f" {min(self._number + 1, self._files)} of {self._files}"
        self._progress.update(
            self._task,
            completed=done,
            description="transcribing" + which * (self._files > 1),
            minutes=f"{_clock(done)} of {_clock(sum(self._lengths))}",
        )

    def next_file(self) -> None:
        """All of the file is transcribed."""
        self._before += self._lengths[self._number]
        self._number += 1
        self(0.0)


def _clock(seconds: float) -> str:
    """Such as 1:02:03, without the fraction."""
    return str(timedelta(seconds=int(seconds)))


@contextmanager
def audio_bar(files: Sequence[str]) -> Iterator[AudioBar]:
    """A bar that counts audio; none where standard error is no terminal."""
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[minutes]}"),
        TimeRemainingColumn(),
        **_on_terminal(),
    ) as progress:
        yield AudioBar(progress, files)
