"""Speech in many languages from two Debian packages: captions read aloud, and telephone prompts.

`tuxpaint-stamps-default` has pictures, beside each its caption in many languages (`NAME.txt`, lines
such as `fr.utf8=...`, English first) and readings of it (`NAME_desc_fr.ogg`). The packages
`asterisk-core-sounds-LANGUAGE-wav` have a directory of prompts a speaker, such as `fr_CA_f_June`,
`asterisk-prompt-*` likewise, or one such as `fr`.
"""

import json
import re
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from whisfusion_jax.errors import WhisfusionError

_READING = re.compile(r"(?P<name>.+)_desc_(?P<language>[a-z]{2})\.ogg")
_SPEAKER = re.compile(r"(?P<language>[a-z]{2})(_[A-Z]{2}_[mf]_\w+)?")
_SOUNDS = (".wav", ".gsm")
_TESTED = 8
"""One in so many names is never trained on."""


def split_of(name: str) -> str:
    """`test` or `train`, by what is read, whoever reads it in whatever language."""
    return "train" if zlib.crc32(name.encode()) % _TESTED else "test"


def captions(stamps: Path, language: str) -> list[dict[str, Any]]:
    """A manifest's rows: each reading in a language, and what is read where it is written.

    Args:
        stamps: the directory of pictures, as the package has it.

    Raises:
        WhisfusionError: there is none in this language.
    """
    rows = []
    for path in sorted(stamps.rglob(f"*_desc_{language}.ogg")):
        reading = _READING.fullmatch(path.name)
        if reading is None:
            continue
        name = reading["name"]
        rows.append(
            {
                "audio": str(path.absolute()),
                "text": _caption(path.with_name(f"{name}.txt"), language),
                "language": language,
                "split": split_of(f"{path.parent.relative_to(stamps)}/{name}"),
                "source": f"captions_{language}",
            }
        )
    if not rows:
        raise WhisfusionError(f"{stamps}: no captions read aloud in {language!r}")
    return rows


def _caption(path: Path, language: str) -> str:
    """Of a picture; empty where none is written."""
    try:
        first, *others = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError, ValueError):
        return ""
    by_language = dict(line.split(".utf8=", 1) for line in others if ".utf8=" in line)
    return by_language.get(language, first if language == "en" else "").strip()


def prompts(sounds: Path) -> list[dict[str, Any]]:
    """A manifest's rows: each prompt of the speakers in a directory, without texts.

    Args:
        sounds: `/usr/share/asterisk/sounds`, as a package has it.

    Raises:
        WhisfusionError: there is none, or they are the English ones, with which models are tested.
    """
    rows = []
    for speaker in sorted(sounds.iterdir() if sounds.is_dir() else ()):
        told = _SPEAKER.fullmatch(speaker.name)
        if told is None:
            continue
        language = told["language"]
        if language == "en":
            raise WhisfusionError(f"{speaker}: English prompts are test data here")
        for path in sorted(speaker.rglob("*")):
            if path.suffix not in _SOUNDS:
                continue
            name = path.relative_to(speaker).with_suffix(".wav")
            rows.append(
                {
                    "audio": str(path.absolute()),
                    "language": language,
                    "speaker": speaker.name,
                    "split": split_of(str(name)),
                    "source": f"prompts_{language}",
                }
            )
    if not rows:
        raise WhisfusionError(f"{sounds}: no directory of prompts, such as fr_CA_f_June")
    return rows


def write_manifest(rows: Iterable[dict[str, Any]], folder: Path) -> Path:
    """Rows as JSON lines."""
    path = folder / "manifest.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path
