"""Public speech sets as they lie on disk once unpacked, without any preparation.

Zeroth        SPLIT_data_01/BOOK/READER/READER_BOOK.trans.txt, its FLACs beside it
LibriSpeech   SPLIT/READER/CHAPTER/READER-CHAPTER.trans.txt, its FLACs beside it
MLS           SPLIT/transcripts.txt, SPLIT/audio/READER/BOOK/READER_BOOK_NUMBER.flac (or .opus)
Common Voice  SPLIT.tsv with a header, clips/
FLEURS        LANGUAGE/SPLIT.tsv without one, LANGUAGE/audio/SPLIT/
VoxPopuli     LANGUAGE/asr_SPLIT.tsv with a header, LANGUAGE/YEAR/*.ogg
AISHELL-1     transcript/aishell_transcript_*.txt, wav/SPLIT/READER/*.wav (its archives unpacked)
ReazonSpeech  tsv/SIZE.tsv without a header, data/NUMBER/*.flac (its archives unpacked in data/)
VCTK          txt/READER/, wav48_silence_trimmed/READER/ (0.92) or wav48/READER/
"""

import csv
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from whisfusion_jax.data.manifest import Utterance
from whisfusion_jax.errors import WhisfusionError


def read_corpus(directory: Path, split: str | None = None) -> list[Utterance]:
    """All utterances of a set, of whichever of these layouts it is.

    Args:
        directory: the set's, or one that holds the set's.
        split: only that one, such as test-clean; None is all.

    Raises:
        WhisfusionError: there is none of these layouts, a list can't be read or names a recording
            that isn't there, or nothing is of that split.
    """
    if not directory.is_dir():
        raise WhisfusionError(f"{directory}: no such directory")
    for layout in _LAYOUTS:
        if found := sorted(layout(directory), key=lambda each: each.audio):
            break
    else:
        known = ", ".join(_LAYOUTS.values())
        raise WhisfusionError(f"{directory}: none of the layouts that are known ({known})")
    chosen = [each for each in found if split in (None, each.split)]
    if not chosen:
        splits = ", ".join(sorted({each.split for each in found}))
        raise WhisfusionError(f"{directory}: nothing of split {split!r}; there are: {splits}")
    for utterance in chosen:
        if not Path(utterance.audio).is_file():
            raise WhisfusionError(f"{utterance.audio}: is listed, and not there")
    return chosen


def _zeroth(directory: Path) -> Iterator[Utterance]:
    for path in directory.rglob("*_data_01/*/*/*.trans.txt"):
        split = path.parents[2].name.partition("_")[0]
        for line in _lines(path):
            name, _, text = line.partition(" ")
            reader = name.partition("_")[0]
            yield Utterance(
                str(path.with_name(f"{name}.flac")), text, "ko", reader, split, "Zeroth"
            )


def _librispeech(directory: Path) -> Iterator[Utterance]:
    for path in directory.rglob("*.trans.txt"):
        split = path.parent.parent.parent.name
        for line in _lines(path):
            name, _, text = line.partition(" ")
            yield Utterance(
                str(path.with_name(f"{name}.flac")), text, "en", name.partition("-")[0], split,
                "LibriSpeech",
            )  # fmt: skip


def _mls(directory: Path) -> Iterator[Utterance]:
    for path in directory.rglob("transcripts.txt"):
        names = re.match(r"mls_([a-z]+)", path.parent.parent.name)
        language = _MLS_LANGUAGES.get(names[1]) if names else None
        for line in _lines(path):
            name, _, text = line.partition("\t")
            reader, book, _ = name.split("_")
            audio = path.parent / "audio" / reader / book / f"{name}.flac"
            if not audio.is_file():
                audio = audio.with_suffix(".opus")
            yield Utterance(str(audio), text, language, reader, path.parent.name, "MLS")


_MLS_LANGUAGES = {
    "dutch": "nl", "english": "en", "french": "fr", "german": "de", "italian": "it",
    "polish": "pl", "portuguese": "pt", "spanish": "es",
}  # fmt: skip


def _common_voice(directory: Path) -> Iterator[Utterance]:
    for path in directory.rglob("*.tsv"):
        clips = path.parent / "clips"
        if not clips.is_dir():
            continue
        rows = csv.DictReader(_lines(path), delimiter="\t", quoting=csv.QUOTE_NONE)
        if not {"path", "sentence", "client_id"} <= set(rows.fieldnames or ()):
            continue  # a list of something else, such as of durations
        for row in rows:
            yield Utterance(
                str(clips / row["path"]), row["sentence"],
                _code(row.get("locale") or path.parent.name), row["client_id"], path.stem,
                "Common Voice",
            )  # fmt: skip


def _fleurs(directory: Path) -> Iterator[Utterance]:
    for path in directory.rglob("*.tsv"):
        audio = path.parent / "audio" / path.stem
        if not audio.is_dir():
            continue
        for line in _lines(path):
            _, name, text, *_ = line.split("\t")
            language = _code(path.parent.name)
            yield Utterance(str(audio / name), text, language, None, path.stem, "FLEURS")


def _voxpopuli(directory: Path) -> Iterator[Utterance]:
    for path in directory.rglob("asr_*.tsv"):
        rows = csv.DictReader(_lines(path), delimiter="\t", quoting=csv.QUOTE_NONE)
        named = "id_" if "id_" in (rows.fieldnames or ()) else "id"
        split = path.stem.removeprefix("asr_")
        for row in rows:
            # Some have their text only as it was normalised.
            text = row["raw_text"] or row["normalized_text"]
            audio = path.parent / row[named][:4] / f"{row[named]}.ogg"
            yield Utterance(
                str(audio), text, path.parent.name, row["speaker_id"], split, "VoxPopuli"
            )


def _aishell(directory: Path) -> Iterator[Utterance]:
    for path in directory.rglob("transcript/aishell_transcript_*.txt"):
        texts = {name: "".join(words) for name, *words in map(str.split, _lines(path))}
        for audio in path.parents[1].glob("wav/*/*/*.wav"):
            if text := texts.get(audio.stem):  # some recordings have none
                reader, split = audio.parent.name, audio.parents[1].name
                yield Utterance(str(audio), text, "zh", reader, split, "AISHELL-1")


def _reazonspeech(directory: Path) -> Iterator[Utterance]:
    for path in directory.rglob("tsv/*.tsv"):
        for line in _lines(path):
            name, _, text = line.partition("\t")
            audio = path.parents[1] / "data" / name
            yield Utterance(str(audio), text, "ja", None, "train", "ReazonSpeech")


def _vctk(directory: Path) -> Iterator[Utterance]:
    for path in directory.glob("**/txt/*/*.txt"):
        reader, whole = path.parent.name, path.parent.parent.parent
        later = whole / "wav48_silence_trimmed" / reader / f"{path.stem}_mic1.flac"
        earlier = whole / "wav48" / reader / f"{path.stem}.wav"
        audio = later if later.is_file() else earlier
        if audio.is_file():  # one reader's texts come without recordings
            text = " ".join(_lines(path)).strip()
            yield Utterance(str(audio), text, "en", reader, "train", "VCTK")


_LAYOUTS: dict[Callable[[Path], Iterator[Utterance]], str] = {
    _zeroth: "Zeroth",
    _librispeech: "LibriSpeech",
    _mls: "MLS",
    _common_voice: "Common Voice",
    _fleurs: "FLEURS",
    _voxpopuli: "VoxPopuli",
    _aishell: "AISHELL-1",
    _reazonspeech: "ReazonSpeech",
    _vctk: "VCTK",
}


def _code(locale: str) -> str:
    """Whisper's code of a locale's language: zh-CN, cmn_hans_cn, es_419."""
    code = re.split("[-_]", locale)[0]
    return {"cmn": "zh", "fil": "tl", "nb": "no"}.get(code, code)


def _lines(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise WhisfusionError(f"{path}: {reason}") from None
    return [line for line in lines if line.strip()]
