"""Captions by a clock of their own, for settings to be compared: the same whatever runs beside."""

from collections.abc import Sequence
from pathlib import Path

import jiwer
import numpy as np
import tyro
from rich.console import Console
from rich.progress import track

from benchmarks.serving.live import Captioned, changed, delays
from whisfusion_jax.audio.arrays import SAMPLE_RATE
from whisfusion_jax.audio.read import read_audio
from whisfusion_jax.cli import keep_compiled_programs
from whisfusion_jax.data.manifest import read_manifest
from whisfusion_jax.text.normalise import normaliser_for
from whisfusion_jax.transcription.captions import Captions, CaptionsConfig, settled
from whisfusion_jax.transcription.transcriber import Transcriber
from whisfusion_jax.transcription.transcript import Transcript
from whisfusion_jax.transcription.turns import Ask
from whisfusion_jax.transcription.words import joined

_PIECE = SAMPLE_RATE // 10
"""Samples that come at once."""
_DEFAULT = CaptionsConfig()


def settings(
    manifests: tyro.conf.Positional[tuple[Path, ...]],
    /,
    count: int = 10,
    round_seconds: float = 0.16,
    config: CaptionsConfig = _DEFAULT,
) -> int:
    """Caption recordings, each round taking as long as is said, and hold that against offline.

    Args:
        manifests: recordings to choose settings by, with or without texts.
        count: of each, from all over it, of 4 to 16 s.
        round_seconds: that a round takes, be it what it may on this machine.
        config: the settings.
    """
    keep_compiled_programs()
    transcriber = Transcriber.from_bundle(
        "tiny.en", decoder="diffusion", batch_size=1, word_times=True
    )
    chosen = [each for path in manifests for each in _chosen(path, count)]
    sounds = [sound for _, sound in chosen]
    offline = [transcriber.transcribe(sound) for sound in sounds]
    found = [
        _captioned(transcriber, sound, config, round_seconds)
        for sound in track(sounds, description="captioning", transient=True)
    ]
    late = [each for pair in zip(found, offline, strict=True) for each in delays(*pair)]
    shown = sum(len(each.words) for each in found)
    normalise = normaliser_for("en")
    said, own, final = (
        [normalise(each) or "-" for each in texts]
        for texts in (
            [text for text, _ in chosen],
            [each.text for each in offline],
            [" ".join(each.texts) for each in found],
        )
    )
    Console().print(
        f"{len(sounds)} recordings: a word {np.median(late):.2f} s behind its end, 95 % within "
        f"{np.quantile(late, 0.95):.2f} s; {sum(map(changed, found)) / shown:.2%} of {shown} shown "
        f"words changed; {jiwer.wer(own, final):.2%} of the final words differ from offline's"
    )
    if all(text for text, _ in chosen):
        Console().print(f"errors {jiwer.wer(said, final):.2%}, offline {jiwer.wer(said, own):.2%}")
    return 0


def _chosen(path: Path, count: int) -> Sequence[tuple[str, np.ndarray]]:
    """Texts, empty where there are none, and samples."""
    utterances = read_manifest(path, texts=False)
    every = (
        (each.text, read_audio(each.audio))
        for each in utterances[:: max(1, len(utterances) // 4 // count)]
    )
    return [each for each in every if 4 <= len(each[1]) / SAMPLE_RATE <= 16][:count]


def _captioned(
    transcriber: Transcriber, sound: np.ndarray, config: CaptionsConfig, seconds: float
) -> Captioned:
    captions, found = Captions(transcriber.bundle.tokenizer, None, config), Captioned()
    sound = np.pad(sound, (0, SAMPLE_RATE))
    now, heard, ended = 0.0, 0, False
    while captions.open or not ended:
        come = min(len(sound), int(now * SAMPLE_RATE) // _PIECE * _PIECE)
        captions.add(sound[heard:come])
        heard = come
        if come >= len(sound) - _PIECE and not ended:
            captions.add(sound[come:])
            captions.end()
            ended = True
        utterance = captions.due()
        if utterance is None:
            now += 0.05
            continue
        now += seconds
        if utterance.over:
            captions.close(utterance)
            last = _written(transcriber, utterance.samples, None)
            words = settled(utterance.words, last.words, config.yields)
            found.texts.append(joined((word.text, word.blank) for word in words))
        else:
            written = _written(transcriber, captions.window(utterance), utterance.tokens)
            found.words += [(word.text, now) for word in captions.take(utterance, written)]
    return found


def _written(
    transcriber: Transcriber, samples: np.ndarray, standing: tuple[int, ...] | None
) -> Transcript:
    asked = [Ask(samples, standing=standing, urgent=True)]
    for _, found in transcriber.as_finished(lambda wait: asked.pop() if asked else None, 0.0):
        if isinstance(found, Transcript):
            return found
    raise AssertionError("what is asked is written")
