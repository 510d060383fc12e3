"""What the converter asks of a checkpoint, whatever its format."""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np

from whisfusion_jax.config import CtcConfig, ModelConfig, TokenRules
from whisfusion_jax.conversion.rules import LeafNames, Rule
from whisfusion_jax.errors import ConversionError


class Checkpoint(ABC):
    """A checkpoint on disk: what is known at once, and its tensors one by one."""

    path: Path
    config: ModelConfig
    names: tuple[Rule, ...]
    leaves: LeafNames
    ignored: frozenset[str]
    """Tensors that carry no weights of their own: copies, flags of the format."""
    rules: TokenRules | None
    """Suppressed tokens; None where the format doesn't say (then derived from the tokenizer)."""
    alignment_heads: tuple[tuple[int, int], ...]
    ctc: CtcConfig | None = None
    """Of a CTC head that comes along."""
    shapes: Mapping[str, tuple[int, ...]]
    """Of every tensor there, by its name."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:  # noqa: B027 - most hold nothing
        """Give back what reading took; nothing is read any more."""

    def tokenizer(self, beside: Path) -> str:
        """The text of the tokenizer.json that counts tokens as our tensors do; asked first.

        Args:
            beside: one in the format's own order, where the format has none inside.

        Raises:
            ConversionError: it isn't readable.
        """
        try:
            return beside.read_text(encoding="utf-8")
        except OSError as error:
            raise ConversionError(
                f"{beside}: {error.strerror}; name one with --tokenizer"
            ) from None

    @abstractmethod
    def dtype(self, name: str) -> np.dtype:
        """What `read` will return, without reading it."""

    @abstractmethod
    def read(self, name: str) -> np.ndarray:
        """One tensor, into memory of its own."""


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a checkpoint's file.

    Raises:
        ConversionError: the file is missing or holds no JSON object.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConversionError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise ConversionError(f"{path}: no JSON ({error})") from None
    if not isinstance(data, dict):
        raise ConversionError(f"{path}: no JSON object")
    return data


def head_pairs(pairs: list[list[int]] | None) -> tuple[tuple[int, int], ...]:
    """[[layer, head], ...] of a checkpoint's settings, as a config holds them."""
    return tuple((layer, head) for layer, head in pairs or [])
