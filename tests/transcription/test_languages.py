"""Diffusion on a multilingual Whisper: languages that are heard, and translation."""

import dataclasses
from typing import get_args

import numpy as np
import pytest

from tests.support import TINY, TINY_RULES, byte_tokenizer, random_tensors, speechlike
from whisfusion_jax import Transcriber
from whisfusion_jax.bundle import Bundle, write_bundle
from whisfusion_jax.config import BundleConfig, CtcConfig
from whisfusion_jax.decoding.unmasking import Repair, TopN
from whisfusion_jax.errors import WhisfusionError
from whisfusion_jax.storage import Tensor
from whisfusion_jax.text.tokenizer import Task
from whisfusion_jax.transcription.decoders import DecoderName
from whisfusion_jax.transcription.turns import Ask

MANY = dataclasses.replace(TINY, vocabulary=51_865)
HEAD = dataclasses.replace(CtcConfig.of_whisper(TINY), pieces=256, layers=1)
CLIPS = [speechlike(1 + number, number) for number in range(3)]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Random weights, whose head drafts whatever it drafts."""
    path = tmp_path_factory.mktemp("languages") / "many"
    tensors = random_tensors(MANY, 6, ctc=HEAD)
    # All but the byte tokenizer's tokens are unlikely.
    tensors["decoder.embedding"][266:] *= 0.01
    # And texts end soon: behind some fifty tokens.
    end = tensors["decoder.embedding"][256]
    tensors["decoder.norm.bias"] += 0.4 * end / np.linalg.norm(end)
    stored = {name: Tensor.of(array) for name, array in tensors.items()}
    return write_bundle(path, BundleConfig(MANY, TINY_RULES, ctc=HEAD), byte_tokenizer(), stored)


@pytest.fixture(scope="module")
def greedy(bundle: Bundle) -> list[tuple[str | None, tuple[int, ...]]]:
    return written(Transcriber(bundle, decoder="ar"))


def written(transcriber: Transcriber) -> list[tuple[str | None, tuple[int, ...]]]:
    found = [transcriber.transcribe(clip) for clip in CLIPS]
    return [(each.language, each.segments[0].tokens) for each in found]


def test_diffusion_hears_the_language_as_whisper_does(
    bundle: Bundle, greedy: list[tuple[str | None, tuple[int, ...]]]
) -> None:
    by_diffusion = Transcriber(bundle, decoder="diffusion", rule=Repair(224))
    assert written(by_diffusion) == greedy
    assert {language for language, _ in greedy} <= {"de", "en"}


def test_all_decoders_translate_alike(bundle: Bundle) -> None:
    expected, *others = (
        written(Transcriber(bundle, decoder=decoder, task="translate"))
        for decoder in ("ar", "exact", "diffusion")
    )
    assert all(other == expected for other in others)


@pytest.mark.parametrize("decoder", ["ar", "exact"])
def test_recordings_with_tasks_of_their_own_share_a_batch(
    bundle: Bundle, decoder: DecoderName
) -> None:
    transcriber = Transcriber(bundle, decoder=decoder, batch_size=4)
    tasks = get_args(Task)
    for task in tasks:
        transcriber.prompts.check_task(task)
    asks = iter([Ask(CLIPS[0], "de", task) for task in tasks])
    found = dict(transcriber.as_finished(lambda wait: next(asks, None), patience=0.1))
    texts = [found[number].text for number in range(2)]
    assert texts == [
        Transcriber(bundle, decoder=decoder, task=task).transcribe(CLIPS[0], "de").text
        for task in tasks
    ]
    assert texts[0] != texts[1]


def test_what_never_learned_to_translate_says_so(bundle: Bundle) -> None:
    with pytest.raises(WhisfusionError, match="diffusion by a rule writes what is said"):
        Transcriber(bundle, decoder="diffusion", task="translate", rule=TopN(4))
    with pytest.raises(WhisfusionError, match="ctc writes what is said"):
        Transcriber(bundle, decoder="ctc", task="translate")
    with pytest.raises(WhisfusionError, match="diffusion was started to transcribe"):
        Transcriber(bundle, decoder="diffusion").prompts.check_task("translate")


def test_languages_share_a_batch(bundle: Bundle) -> None:
    """One program, whatever languages are heard in it; and without a denoiser few passes."""
    transcriber = Transcriber(bundle, decoder="diffusion", batch_size=4)
    together = list(transcriber.transcribe_many([*CLIPS, CLIPS[0]]))
    assert [each.text for each in together] == [
        transcriber.transcribe(clip).text for clip in (*CLIPS, CLIPS[0])
    ]
    assert all(each.steps <= 8 for each in together)
