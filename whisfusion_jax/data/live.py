"""Examples that each step encodes: nothing on disk but an index, the encoder each time."""

from collections.abc import Callable, Iterable
from functools import partial
from io import BytesIO
from typing import Any

import jax
import numpy as np
from etils import epath
from jax.experimental import multihost_utils

from whisfusion_jax.audio.arrays import SAMPLE_RATE
from whisfusion_jax.audio.windows import bucket_for, pad_to
from whisfusion_jax.bundle import Bundle
from whisfusion_jax.data.encoded import TOP, Row, read_row
from whisfusion_jax.data.index import Columns, Indexed, index_of, joined, other_data
from whisfusion_jax.data.sources import Source
from whisfusion_jax.errors import AudioError, WhisfusionError


class Live(Indexed):
    """The other kind of `Examples`. There is no teacher, as Whisper's decoder doesn't run."""

    def __init__(
        self,
        source: Source,
        bundle: Bundle,
        path: epath.Path,
        track: Callable[[Iterable[int]], Iterable[int]] = lambda numbers: numbers,
    ) -> None:
        """Read every example once for its length, each process its share; then all is in a file.

        Args:
            bundle: a Whisper's, whose tokens are meant.
            path: the file's (.npz), which all processes see. If it is there, nothing is read.
            track: wraps the numbers of the examples, for progress.

        Raises:
            WhisfusionError: no example can be read, or the file can't be written, or it is of
                other data.
        """
        self._read = partial(
            read_row, source, tokenizer=bundle.tokenizer, model=bundle.config.model
        )
        if not path.is_file():
            try:
                _write_index(self._read, len(source), path, track)
            except OSError as error:
                reason = error.strerror or error
                raise WhisfusionError(f"{path}: can't be written ({reason})") from None
        self._path = path
        index = _load(path)
        if int(index["examples"].sum()) != len(source):
            raise other_data(path)
        super().__init__(index)
        self._number = index["number"]
        self._lost: set[int] = set()

    def audio(self, numbers: np.ndarray) -> np.ndarray:
        """As the protocol says; what can be read no more becomes silence without a text.

        Raises:
            WhisfusionError: an example has another text than the index says.
        """
        bucket = int(self.bucket[numbers[0]])
        return np.stack([pad_to(self._samples(number), bucket) for number in numbers.tolist()])

    def _samples(self, number: int) -> np.ndarray:
        try:
            row = self._read(int(self._number[number]))
        except AudioError as error:
            self.unreadable = (*self.unreadable, str(error))
            self._lost.add(number)
            return np.zeros(0, np.float32)
        if row.tokens != super().tokens(number).tolist():
            raise other_data(self._path)
        return row.samples

    def tokens(self, number: int) -> np.ndarray:
        tokens = super().tokens(number)
        return tokens[-1:] if number in self._lost else tokens

    def teacher(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        shape = (len(self.tokens(number)), TOP)
        return np.zeros(shape, np.int32), np.zeros(shape, np.float16)


def _write_index(
    read: Callable[[int], Row],
    examples: int,
    path: epath.Path,
    track: Callable[[Iterable[int]], Iterable[int]],
) -> None:
    """Read this process's share into a part beside the file; the first process joins them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    process, processes = jax.process_index(), jax.process_count()
    parts = [path.with_name(f"{path.stem}.part-{n}-of-{processes}.npz") for n in range(processes)]
    first, last = (examples * number // processes for number in (process, process + 1))
    _save(parts[process], _read_share(read, track(range(first, last))))
    multihost_utils.sync_global_devices("shares of the index are written")
    if process == 0:
        aside = path.with_name(f".{path.name}.partial.npz")
        _save(aside, joined([_load(part) for part in parts]))
        aside.rename(path)
        for part in parts:
            part.unlink()
    multihost_utils.sync_global_devices("the index is written")


def _read_share(read: Callable[[int], Row], numbers: Iterable[int]) -> dict[str, Any]:
    known, unreadable, examples = [], [], 0
    for number in numbers:
        examples += 1
        try:
            row = read(number)
        except AudioError as error:
            unreadable.append(str(error))
            continue
        known.append(
            {
                "number": number,
                "bucket": bucket_for(len(row.samples)),
                "seconds": len(row.samples) / SAMPLE_RATE,
                "prompt": row.prompt,
                "tokens": row.tokens,
            }
        )
    numbered = np.array([each["number"] for each in known], np.int64)
    return {"number": numbered, "examples": np.array([examples]), **index_of(known, unreadable)}


def _save(path: epath.Path, columns: dict[str, Any]) -> None:
    with path.open("wb") as file:
        np.savez(file, **columns)


def _load(path: epath.Path) -> Columns:
    with np.load(BytesIO(path.read_bytes())) as index:
        return dict(index)
