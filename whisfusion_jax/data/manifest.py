"""Test sets as JSON lines: audio, text, and what is known of each utterance."""

import json
from dataclasses import dataclass
from pathlib import Path

from whisfusion_jax.errors import WhisfusionError
from whisfusion_jax.places import place


@dataclass(frozen=True)
class Utterance:
    """A line of a manifest."""

    audio: str
    """Path of the recording."""
    text: str
    """What is said."""
    language: str | None = None
    speaker: str | None = None
    split: str = "train"
    """Of a set that is prepared for training."""
    source: str | None = None
    """Where the recording is from."""


def read_manifest(path: Path, texts: bool = True) -> list[Utterance]:
    """Read a manifest; audio paths are relative to its directory, unknown fields are ignored.

    Args:
        texts: whether every line must say its text.

    Raises:
        WhisfusionError: the file is missing or empty, or a line is not as it should be.
    """
    try:
        lines = place(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise WhisfusionError(f"{path}: {reason}") from None
    utterances = [
        _utterance(line, path, number, texts)
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]
    if not utterances:
        raise WhisfusionError(f"{path}: holds no utterance")
    return utterances


def _utterance(line: str, path: Path, number: int, texts: bool) -> Utterance:
    try:
        row = json.loads(line)
        audio, text = row["audio"], row["text"] if texts else row.get("text", "")
        if not isinstance(audio, str) or not isinstance(text, str):
            raise TypeError("audio and text must be strings")
    except (ValueError, TypeError, KeyError) as error:
        reason = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        raise WhisfusionError(f"{path}:{number}: {reason}") from None
    return Utterance(
        str(place(path).parent / audio), text, row.get("language"), row.get("speaker"),
        row.get("split", "train"), row.get("source"),
    )  # fmt: skip
