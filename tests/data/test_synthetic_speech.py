"""Made speech, by the engine that is easiest to have."""

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from whisfusion_jax.data.sources import Prepared
from whisfusion_jax.data.synthetic_speech import HELD_OUT, SyntheticSpeech, SyntheticSpeechConfig
from whisfusion_jax.data.voices import Voice, installed, speak, voices_for
from whisfusion_jax.errors import WhisfusionError

ESPEAK = Voice("espeak", "en-us+f3")

needs_espeak = pytest.mark.skipif(
    shutil.which("espeak-ng") is None, reason="espeak-ng is not installed (.ci/run installs it)"
)


@needs_espeak
def test_speed_and_pitch_do_what_they_say() -> None:
    plain = speak(ESPEAK, "The cat sat on the mat.", "en")
    fast = speak(ESPEAK, "The cat sat on the mat.", "en", speed=1.3)
    high = speak(ESPEAK, "The cat sat on the mat.", "en", pitch=1.2)
    assert 0.65 < len(fast) / len(plain) < 0.9
    assert 0.85 < len(high) / len(plain) < 1.15

    def centre(samples: np.ndarray) -> float:
        power = np.abs(np.fft.rfft(samples)) ** 2
        return float((power * np.fft.rfftfreq(len(samples), 1 / 16_000)).sum() / power.sum())

    assert centre(high) > 1.05 * centre(plain)


@needs_espeak
def test_a_set_is_made_twice_the_same(tmp_path: Path) -> None:
    sentences = [f"Sentence number {n}." for n in range(2 * HELD_OUT)]
    (tmp_path / "en.txt").write_text("\n".join(sentences))
    config = SyntheticSpeechConfig(
        sentences=str(tmp_path / "en.txt"), utterances=6, test_utterances=2, joined=0.3,
        voices=(ESPEAK, Voice("espeak", "en-gb+m3")),
    )  # fmt: skip
    sets = []
    for name in ("once", "again"):
        builder = SyntheticSpeech(
            config=config, data_dir=tmp_path / name, file_format="array_record"
        )
        builder.download_and_prepare()
        sets.append(builder.data_dir)
    train, test = Prepared(sets[0]), Prepared(sets[0], "test")
    assert (len(train), len(test)) == (6, 2)
    told = " ".join(sentences[:-HELD_OUT])
    for number in range(6):
        once, again = train[number], Prepared(sets[1])[number]
        np.testing.assert_array_equal(once.samples, again.samples)
        assert once.text == again.text
        assert all(part.strip(". ") in told for part in once.text.split(". "))
    assert all(test[number].text in sentences[-HELD_OUT:] for number in range(2))


_PROGRAM = """#!{python}
import sys, wave
said = sys.argv[-1] if {name!r} == "pico2wave" else sys.stdin.read()
speed = sys.argv[sys.argv.index("-r") + 1] if "-r" in sys.argv else said.split('"')[1]
rate = float(speed)
to = next(word for word in sys.argv if word.endswith(".wav"))
out = wave.open(to, "wb")
out.setparams((1, 2, 16_000, 0, "NONE", ""))
out.writeframes(b"\\1\\2" * int(16_000 * {whole} / rate))
out.close()
open({heard!r}, "w").write(said)
"""
"""A second of noise at the program's usual rate, told as that program takes it."""


@pytest.mark.parametrize(
    ("program", "voice", "whole"),
    [
        ("pico2wave", Voice("pico", "de-DE"), 100),
        ("RHVoice-test", Voice("rhvoice", "leticia-f123"), 100),
        ("open_jtalk", Voice("open_jtalk", "nitech_jp_atr503_m001"), 1),
    ],
)
def test_programs_are_told_how_fast_to_speak(
    program: str, voice: Voice, whole: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = tmp_path / "heard"
    there = tmp_path / program
    there.write_text(
        _PROGRAM.format(python=sys.executable, name=program, whole=whole, heard=str(heard))
    )
    there.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert voice in installed([voice])
    for speed in (1.0, 2.0):
        assert len(speak(voice, "3 < 4, eh", "de", speed)) == pytest.approx(16_000 / speed, abs=9)
    assert "eh" in heard.read_text()
    if program == "pico2wave":  # which reads tags
        assert heard.read_text().count("<") == 2


def test_engines_that_are_missing_are_named() -> None:
    with pytest.raises(WhisfusionError, match="no speech engine is installed.*nobody"):
        installed([Voice("nobody", "at home")])


def test_every_language_has_a_voice() -> None:
    for language in ("en", "de", "it", "ja", "zh", "ko"):
        assert any(voice.engine == "espeak" for voice in voices_for(language))


def test_a_missing_set_is_named(tmp_path: Path) -> None:
    with pytest.raises(WhisfusionError, match="nowhere, split train: "):
        Prepared(tmp_path / "nowhere")
