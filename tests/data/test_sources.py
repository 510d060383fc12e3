"""Sources of speech: deterministic, in range, labelled."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from tests.support import speechlike
from tests.training.tiny import write_wave
from whisfusion_jax.data import augment
from whisfusion_jax.data.manifest_speech import ManifestSpeech, ManifestSpeechConfig
from whisfusion_jax.data.sources import (
    Augmented,
    Example,
    Joined,
    Prepared,
    Together,
    Wordless,
    wordless,
)


class Few:
    """Three recordings."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, number: int) -> Example:
        if not 0 <= number < 3:
            raise IndexError(number)
        return Example(speechlike(2 + number, number), f"number {number}")


SOURCES = (Joined(Few(), 8), Wordless(8), Augmented(Few(), 1.0), Together((Few(), Wordless(2))))


@pytest.mark.parametrize("source", SOURCES, ids=lambda s: type(s).__name__)
def test_examples_are_the_same_each_time(source: Joined) -> None:
    for number in range(len(source)):
        once, again = source[number], source[number]
        np.testing.assert_array_equal(once.samples, again.samples)
        assert once.text == again.text
        assert once.samples.dtype == np.float32
        assert np.isfinite(once.samples).all()
        assert 0.4 * 16_000 < len(once.samples) <= 29.5 * 16_000


def test_joined_speech_says_it_all() -> None:
    for number in range(8):
        example = Joined(Few(), 8)[number]
        said = [int(word) for word in example.text.split()[1::2]]
        assert len(said) >= 2
        spoken = sum(2 + each for each in said)
        assert spoken <= len(example.samples) / 16_000 <= spoken + 0.7 * len(said)


class Mixed(Few):
    """Every other example is of another language."""

    def __getitem__(self, number: int, /) -> Example:
        return dataclasses.replace(super().__getitem__(number), language=["en", "de"][number % 2])


def test_joined_speech_is_of_one_language() -> None:
    for number in range(8):
        example = Joined(Mixed(), 8)[number]
        said = [int(word) for word in example.text.split()[1::2]]
        assert {each % 2 for each in said} == {int(example.language == "de")}


def test_sources_stand_one_after_the_other() -> None:
    together = Together((Few(), Few()))
    assert len(together) == 6
    assert together[4].text == "number 1"
    with pytest.raises(IndexError):
        together[6]


@pytest.mark.parametrize("kind", ["silence", "white", "pink", "tones"])
def test_wordless_sounds_stay_in_range(kind: str) -> None:
    sound = wordless(kind, 3.0, np.random.default_rng(0))
    assert sound.shape == (48_000,)
    assert np.abs(sound).max() <= 1
    assert (np.abs(sound).max() == 0) == (kind == "silence")


def band_energy(samples: np.ndarray, low: float, high: float) -> float:
    hertz = np.fft.rfftfreq(len(samples), 1 / 16_000)
    power = np.abs(np.fft.rfft(samples)) ** 2
    return float(power[(hertz >= low) & (hertz < high)].sum() / power.sum())


def test_a_telephone_keeps_its_band_alone() -> None:
    noise = np.random.default_rng(0).normal(size=32_000).astype(np.float32) * 0.2
    line = augment.telephone(noise)
    assert len(line) == len(noise)
    assert band_energy(line, 250, 3500) > 0.97


def test_noise_is_as_loud_as_asked() -> None:
    speech = speechlike(3)
    noise = np.random.default_rng(0).normal(size=len(speech))
    added = augment.mixed(speech, noise, 10.0) - speech
    ratio = 10 * np.log10(np.mean(speech**2) / np.mean(added**2))
    assert ratio == pytest.approx(10, abs=0.1)


@pytest.mark.parametrize("codec", ["libopus", "libmp3lame"])
def test_a_codec_keeps_speech_in_place(codec: str) -> None:
    speech = speechlike(3)
    heard = augment.coded(speech, codec, 24_000)
    assert heard.shape == speech.shape
    assert np.corrcoef(speech, heard)[0, 1] > 0.7


def test_a_room_rings_on() -> None:
    click = np.zeros(16_000, np.float32)
    click[1000] = 1
    heard = augment.reverberant(click, 0.5, np.random.default_rng(0))
    assert heard[1000] == pytest.approx(1, abs=0.2)
    assert 0 < np.abs(heard[4000:5000]).max() < np.abs(heard[1001:2000]).max()


def test_all_of_librispeech_for_training_is_one_split(tmp_path: Path) -> None:
    for split in ("train-clean-100", "train-other-500", "dev-clean"):
        chapter = tmp_path / "LibriSpeech" / split / "61" / "70968"
        chapter.mkdir(parents=True)
        (chapter / "61-70968.trans.txt").write_text("61-70968-0000 HE BEGAN\n")
        write_wave(chapter / "61-70968-0000.flac", speechlike(1.0))
    builder = ManifestSpeech(
        config=ManifestSpeechConfig(name="libri", manifest=str(tmp_path / "LibriSpeech")),
        data_dir=tmp_path / "data",
        file_format="array_record",
    )
    builder.download_and_prepare()
    assert len(Prepared(builder.data_dir)) == 2
    assert len(Prepared(builder.data_dir, "dev-clean")) == 1
