"""Public sets' layouts, a few files of each."""

from collections.abc import Callable
from pathlib import Path

import pytest

from whisfusion_jax.data.corpora import read_corpus
from whisfusion_jax.errors import WhisfusionError


def put(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def librispeech(root: Path) -> None:
    for split in ("test-clean", "dev-clean"):
        chapter = root / "LibriSpeech" / split / "61" / "70968"
        put(chapter / "61-70968.trans.txt", "61-70968-0000 HE BEGAN\n61-70968-0001 A TALE\n")
        for number in (0, 1):
            put(chapter / f"61-70968-000{number}.flac")


def mls(root: Path) -> None:
    split = root / "mls_german_opus" / "test"
    put(split / "transcripts.txt", "12_34_000001\tguten tag\n12_35_000002\tbis bald\n")
    put(split / "audio" / "12" / "34" / "12_34_000001.opus")
    put(split / "audio" / "12" / "35" / "12_35_000002.flac")


def common_voice(root: Path) -> None:
    language = root / "cv-corpus-22.0" / "fr"
    header = "client_id\tpath\tsentence\tup_votes\tlocale\n"
    put(language / "test.tsv", f'{header}a1\tone.mp3\tIl dit : "oui".\t2\tfr\n')
    put(language / "train.tsv", f"{header}b2\ttwo.mp3\tBonjour\t2\tfr\n")
    put(language / "clip_durations.tsv", "clip\tduration[ms]\none.mp3\t1200\n")
    put(language / "clips" / "one.mp3")
    put(language / "clips" / "two.mp3")


def fleurs(root: Path) -> None:
    language = root / "nl_nl"
    put(language / "test.tsv", "7\t77.wav\tDit is het.\tdit is het\td i t\t16000\tFEMALE\n")
    put(language / "audio" / "test" / "77.wav")


def zeroth(root: Path) -> None:
    reader = root / "zeroth_korean" / "test_data_01" / "003" / "104"
    put(reader / "104_003.trans.txt", "104_003_0019 지난해 삼 월\n")
    put(reader / "104_003_0019.flac")


def voxpopuli(root: Path) -> None:
    language = root / "transcribed_data" / "pl"
    header = "id\traw_text\tnormalized_text\tspeaker_id\tsplit\tgender\n"
    first = "2010-1-pl_0\t\tdziękuję bardzo\t9\ttest\tmale\n"
    second = "2011-2-pl_1\tTak, jest.\ttak jest\t7\ttest\tmale\n"
    put(language / "asr_test.tsv", header + first + second)
    put(language / "2010" / "2010-1-pl_0.ogg")
    put(language / "2011" / "2011-2-pl_1.ogg")


def aishell(root: Path) -> None:
    whole = root / "data_aishell"
    put(whole / "transcript" / "aishell_transcript_v0.8.txt", "BAC009S0002W0122 而 对 楼市\n")
    put(whole / "wav" / "test" / "S0002" / "BAC009S0002W0122.wav")
    put(whole / "wav" / "test" / "S0002" / "BAC009S0002W0123.wav")


def reazonspeech(root: Path) -> None:
    put(root / "tsv" / "tiny.tsv", "000/0a1b.flac\t今日は晴れです。\n")
    put(root / "data" / "000" / "0a1b.flac")


def mandarin(root: Path) -> None:
    header = "client_id\tpath\tsentence\tup_votes\tlocale\n"
    put(root / "zh-CN" / "test.tsv", f"{header}a1\tone.mp3\t你好\t2\tzh-CN\n")
    put(root / "zh-CN" / "clips" / "one.mp3")


def fleurs_mandarin(root: Path) -> None:
    put(root / "cmn_hans_cn" / "test.tsv", "7\t77.wav\t你好\t你好\t你\t16000\tFEMALE\n")
    put(root / "cmn_hans_cn" / "audio" / "test" / "77.wav")


def vctk(root: Path) -> None:
    put(root / "txt" / "p225" / "p225_001.txt", "Please call Stella.\n")
    put(root / "wav48_silence_trimmed" / "p225" / "p225_001_mic1.flac")
    put(root / "txt" / "p315" / "p315_001.txt", "There is no recording of this.\n")


FOUND = [
    (librispeech, "test-clean", [("HE BEGAN", "en", "61"), ("A TALE", "en", "61")]),
    (mls, "test", [("guten tag", "de", "12"), ("bis bald", "de", "12")]),
    (common_voice, "test", [('Il dit : "oui".', "fr", "a1")]),
    (fleurs, "test", [("Dit is het.", "nl", None)]),
    (mandarin, "test", [("你好", "zh", "a1")]),
    (fleurs_mandarin, "test", [("你好", "zh", None)]),
    (zeroth, "test", [("지난해 삼 월", "ko", "104")]),
    (voxpopuli, "test", [("dziękuję bardzo", "pl", "9"), ("Tak, jest.", "pl", "7")]),
    (aishell, "test", [("而对楼市", "zh", "S0002")]),
    (reazonspeech, "train", [("今日は晴れです。", "ja", None)]),
    (vctk, "train", [("Please call Stella.", "en", "p225")]),
]


@pytest.mark.parametrize(("make", "split", "expected"), FOUND)
def test_a_set_is_read_as_it_lies_on_disk(
    make: Callable[[Path], None], split: str, expected: list, tmp_path: Path
) -> None:
    make(tmp_path)
    found = read_corpus(tmp_path, split)
    assert [(each.text, each.language, each.speaker) for each in found] == expected
    assert all(each.split == split and Path(each.audio).is_file() for each in found)


def test_without_a_split_all_are_read(tmp_path: Path) -> None:
    librispeech(tmp_path)
    assert {each.split for each in read_corpus(tmp_path)} == {"test-clean", "dev-clean"}


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    with pytest.raises(WhisfusionError, match="no such directory"):
        read_corpus(tmp_path / "nowhere")
    with pytest.raises(WhisfusionError, match="none of the layouts"):
        read_corpus(tmp_path)
    librispeech(tmp_path)
    with pytest.raises(WhisfusionError, match="there are: dev-clean, test-clean"):
        read_corpus(tmp_path, "train-clean-100")
    next(tmp_path.rglob("*-0001.flac")).unlink()
    with pytest.raises(WhisfusionError, match=r"0001\.flac: is listed, and not there"):
        read_corpus(tmp_path)
