"""Captions and prompts, in directories made here as the packages have them."""

from pathlib import Path

import pytest

from tools.prepare_speech.read_aloud import captions, prompts, split_of, write_manifest
from whisfusion_jax.data.manifest import read_manifest
from whisfusion_jax.errors import WhisfusionError


@pytest.fixture
def stamps(tmp_path: Path) -> Path:
    folder = tmp_path / "stamps" / "animals"
    folder.mkdir(parents=True)
    (folder / "cat.txt").write_text("A cat.\nfr.utf8=Un chat.\nes.utf8=Un gato.\n")
    for name in ("cat_desc_fr.ogg", "cat_desc_es.ogg", "cat_fr.ogg", "dog_desc_fr.ogg"):
        (folder / name).touch()
    return tmp_path / "stamps"


def test_readings_have_their_captions(stamps: Path, tmp_path: Path) -> None:
    manifest = write_manifest(captions(stamps, "fr"), tmp_path)
    cat, dog = read_manifest(manifest, texts=False)
    assert (Path(cat.audio).name, cat.text, cat.language) == ("cat_desc_fr.ogg", "Un chat.", "fr")
    assert (Path(dog.audio).name, dog.text) == ("dog_desc_fr.ogg", "")


def test_what_is_tested_is_so_in_every_language(stamps: Path) -> None:
    (french, _), (spanish,) = captions(stamps, "fr"), captions(stamps, "es")
    assert french["split"] == spanish["split"]
    names = [split_of(str(number)) for number in range(4000)]
    assert 0.1 < names.count("test") / len(names) < 0.15


def test_a_language_that_nobody_reads_is_named(stamps: Path) -> None:
    with pytest.raises(WhisfusionError, match="no captions read aloud in 'ja'"):
        captions(stamps, "ja")


def test_prompts_are_listed_by_speaker(tmp_path: Path) -> None:
    folder = tmp_path / "fr_CA_f_June" / "digits"
    folder.mkdir(parents=True)
    other = tmp_path / "fr" / "digits"
    other.mkdir(parents=True)
    for path in (folder / "1.wav", other / "1.gsm", other / "LICENSE"):
        path.touch()
    found = prompts(tmp_path)
    assert [row["speaker"] for row in found] == ["fr", "fr_CA_f_June"]
    assert {row["language"] for row in found} == {"fr"}
    assert len({row["split"] for row in found}) == 1
    with pytest.raises(WhisfusionError, match="no directory of prompts"):
        prompts(folder)


def test_english_prompts_are_never_learned_from(tmp_path: Path) -> None:
    (tmp_path / "en_US_f_Allison").mkdir()
    with pytest.raises(WhisfusionError, match="test data"):
        prompts(tmp_path)
