"""What has been encoded so far, so that a run that is killed loses one batch at most.

A batch's states are appended to its bucket's file; then the batch is entered, in a file of its own
that appears whole or not at all. What stands behind the last entry when a run starts again is cut
off.
"""

import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from whisfusion_jax.data.index import BY_TOKEN, Columns, in_order, index_of, joined, other_data
from whisfusion_jax.errors import WhisfusionError


class Journal:
    """The account of a folder of encoded examples while it is being filled."""

    def __init__(
        self, folder: Path, examples: int, width: int, frames: Callable[[int], int]
    ) -> None:
        """Open the account, or begin it.

        Args:
            examples: of the source.
            width: of the states.
            frames: of a bucket, by its seconds.

        Raises:
            WhisfusionError: it is of other data.
        """
        self._folder, self._entries, self._examples = folder, folder / "entries", examples
        self._width = width
        self._entries.mkdir(exist_ok=True)
        self._batches: list[Columns] = []
        self._rows: dict[int, int] = defaultdict(int)
        self._left_out: dict[int, str] = {}
        for path in sorted(self._entries.glob("*.npz")):
            with np.load(path) as entry:
                batch = dict(entry)
            if int(batch.pop("examples")) != examples:
                raise other_data(folder)
            self._batches.append(batch)
            self._rows[int(batch["bucket"][0])] += len(batch["row"])
        for path in folder.glob("*.states"):
            bucket = int(path.stem)
            row = frames(bucket) * width * np.dtype(np.float16).itemsize
            os.truncate(path, self._rows[bucket] * row)

    def missing(self) -> list[int]:
        """Numbers of the examples that are to be encoded."""
        known = set(np.concatenate([np.zeros(0, int), *(b["number"] for b in self._batches)]))
        return [number for number in range(self._examples) if number not in known]

    def leave_out(self, number: int, reason: str) -> None:
        """Note what can't be used; asked again in a run that goes on."""
        self._left_out[number] = reason

    def add(self, bucket: int, states: np.ndarray, known: Sequence[Mapping[str, Any]]) -> None:
        """Write a batch of one bucket.

        Args:
            states: [rows, frames, width] float16.
            known: each one's number, bucket, seconds, prompt, tokens and teacher.
        """
        first = self._rows[bucket]
        with (self._folder / f"{bucket:02}.states").open("ab") as file:
            file.write(states.tobytes())
        batch = {
            **index_of(known, ()),
            "number": np.array([each["number"] for each in known], np.int64),
            "row": first + np.arange(len(known)),
            **{name: np.concatenate([each[name] for each in known]) for name in BY_TOKEN},
        }
        del batch["unreadable"]
        self._write(self._entries / f"{len(self._batches):06}.npz", batch)
        self._batches.append(batch)
        self._rows[bucket] += len(known)

    def finish(self) -> None:
        """Write the index and close the account.

        Raises:
            WhisfusionError: there is no example.
        """
        if not self._batches:
            raise WhisfusionError("there is no example that can be read")
        whole = joined(self._batches)
        index = in_order(whole, np.argsort(whole["number"]))
        reasons = [self._left_out[number] for number in sorted(self._left_out)]
        index |= {"unreadable": np.array(reasons, np.str_), "width": np.array(self._width)}
        self._write(self._folder / "index.npz", index)
        shutil.rmtree(self._entries)

    def _write(self, path: Path, columns: Columns) -> None:
        aside = path.with_name(f".{path.name}.partial-{os.getpid()}.npz")
        whole: dict[str, Any] = {**columns, "examples": np.array(self._examples)}
        np.savez(aside, **whole)
        aside.rename(path)
