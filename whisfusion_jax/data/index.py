"""What is known of examples before they are read for training: sizes, prompts, texts."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from whisfusion_jax.errors import WhisfusionError

Columns = Mapping[str, np.ndarray]
"""An array for each thing that is known; texts stand one behind the other in it."""

BY_TOKEN = ("tokens", "teacher_tokens", "teacher_probs")
"""Columns that have an entry a token, not an example."""


class Indexed:
    """Examples of which an index says all but the audio; half of `Examples`."""

    def __init__(self, index: Columns) -> None:
        """Take over what `index_of` made.

        Raises:
            WhisfusionError: it is empty.
        """
        if not len(index["bucket"]):
            raise WhisfusionError("there is no example that can be read")
        self.bucket, self.seconds = index["bucket"], index["seconds"]
        self.prompt, self.lengths = index["prompt"], index["lengths"]
        self.unreadable: Sequence[str] = index["unreadable"].tolist()
        self._tokens, self._ends = index["tokens"], np.cumsum(self.lengths)

    def __len__(self) -> int:
        return len(self.bucket)

    def tokens(self, number: int) -> np.ndarray:
        return self._tokens[self._span(number)]

    def _span(self, number: int) -> slice:
        """An example's part of a column that has as much as it has tokens."""
        end = int(self._ends[number])
        return slice(end - int(self.lengths[number]), end)


def index_of(known: Sequence[Mapping[str, Any]], unreadable: Sequence[str]) -> dict[str, Any]:
    """Columns of some examples.

    Args:
        known: each one's bucket, seconds, prompt and tokens.
        unreadable: what was left out, a message each.
    """
    return {
        "bucket": np.array([each["bucket"] for each in known], np.int32),
        "seconds": np.array([each["seconds"] for each in known], np.float32),
        "prompt": np.array([each["prompt"] for each in known], np.int32),
        "lengths": np.array([len(each["tokens"]) for each in known], np.int32),
        "tokens": np.array([token for each in known for token in each["tokens"]], np.int32),
        "unreadable": np.array(unreadable, np.str_),
    }


def joined(parts: Sequence[Columns]) -> dict[str, Any]:
    """The columns of several indexes, one behind the other."""

    def column(name: str) -> np.ndarray:
        # An empty one has no shape.
        filled = [part[name] for part in parts if len(part[name])]
        return np.concatenate(filled) if filled else parts[0][name]

    return {name: column(name) for name in parts[0]}


def in_order(index: Columns, first: np.ndarray) -> dict[str, Any]:
    """Columns with the examples in another order.

    Args:
        first: [examples] numbers of the examples, in the order wanted.
    """
    ends = np.cumsum(index["lengths"])
    spans = [
        np.arange(end - length, end) for end, length in zip(ends, index["lengths"], strict=True)
    ]
    flat = np.concatenate([spans[number] for number in first])
    return {
        name: column[flat if name in BY_TOKEN else first]
        for name, column in index.items()
        for name, column in index.items()
    }


def other_data(path: epath.PathLike) -> WhisfusionError:
    """What to say if an index has not the examples of the run."""
    return WhisfusionError(f"{path}: is of other data; remove it, or use another --work")
