"""A TFDS builder: sentences spoken by every engine at hand, the same from the same seed."""

import multiprocessing
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from whisfusion_jax.audio.arrays import SAMPLE_RATE
from whisfusion_jax.data.features import speech_features, to_int16
from whisfusion_jax.data.voices import Voice, installed, speak, voices_for
from whisfusion_jax.errors import WhisfusionError

HELD_OUT = 1000
"""Sentences at a file's end that are never trained on; a fifth of files with few."""
_FEWEST = 50
LONGEST_SECONDS = 29.5


@dataclass(kw_only=True)
class SyntheticSpeechConfig(tfds.core.BuilderConfig):
    """What is said, and by whom.

    Attributes:
        sentences: a text file, a sentence a line.
        language: of the sentences, such as "en".
        utterances: in the split `train`. TFDS sorts a split of up to 1 GB in memory and needs
            TensorFlow above that, so larger sets are made in parts of some 5,000.
        first: number of the first of them: parts with different numbers differ.
        test_utterances: in the split `test`, from held-out sentences, one sentence each.
        joined: share of the training utterances that are several sentences, up to 29.5 s.
        voices: who speaks; by default everyone who speaks the language and is installed.
        seed: of every choice.
    """

    name: str = "synthetic"
    sentences: str = ""
    language: str = "en"
    utterances: int = 5000
    first: int = 0
    test_utterances: int = 300
    joined: float = 0.05
    voices: tuple[Voice, ...] = ()
    seed: int = 0


class SyntheticSpeech(tfds.core.GeneratorBasedBuilder):
    """Made speech with varied voices, speed, pitch and loudness."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(features=speech_features())

    def _split_generators(self, dl_manager: Any) -> Mapping[str, Iterator[Any]]:
        config = self.builder_config
        lines = Path(config.sentences).read_text(encoding="utf-8").splitlines()
        sentences = [line.strip() for line in lines if line.strip()]
        if len(sentences) < _FEWEST:
            raise WhisfusionError(
                f"{config.sentences}: {len(sentences)} sentences, at least {_FEWEST} are needed"
            )
        last = HELD_OUT if len(sentences) >= 2 * HELD_OUT else len(sentences) // 5
        voices = config.voices or installed(voices_for(config.language))
        told, held_out = sentences[:-last], sentences[-last:]
        train = _Plan(told, voices, config.language, config.joined, config.seed)
        test = _Plan(held_out, voices, config.language, 0.0, config.seed)
        numbers = range(config.first, config.first + config.utterances)
        return {
            "train": self._generate_examples(train, numbers),
            "test": self._generate_examples(test, range(config.test_utterances)),
        }

    def _generate_examples(
        self, plan: "_Plan", numbers: range
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """Utterances in order, from a process a core."""
        context = multiprocessing.get_context("forkserver")
        with ProcessPoolExecutor(os.cpu_count(), context, _set_plan, (plan,)) as pool:
            yield from zip(numbers, pool.map(_say, numbers, chunksize=8), strict=True)


@dataclass(frozen=True)
class _Plan:
    """Every choice that utterance number n needs, beside n."""

    sentences: list[str]
    voices: tuple[Voice, ...]
    language: str
    joined: float
    seed: int

    def say(self, number: int) -> dict[str, Any]:
        """Speak an utterance."""
        draw = np.random.default_rng([self.seed, number])
        weights = np.array([voice.weight for voice in self.voices])
        voice = self.voices[draw.choice(len(self.voices), p=weights / weights.sum())]
        speed, pitch = np.exp(draw.normal(0, (0.12, 0.06)))
        gain = 10 ** draw.uniform(-1, 0)
        count = draw.integers(2, 9) if draw.random() < self.joined else 1
        texts = [self.sentences[number % len(self.sentences)]]
        texts += [self.sentences[draw.integers(len(self.sentences))] for _ in range(count - 1)]
        said: list[str] = []
        samples = np.zeros(0, np.float32)
        for text in texts:
            spoken = speak(voice, text, self.language, speed, pitch)
            pause = np.zeros(int(draw.uniform(0.1, 0.6) * SAMPLE_RATE), np.float32)
            longer = np.concatenate([samples, pause, spoken]) if said else spoken
            if said and len(longer) > LONGEST_SECONDS * SAMPLE_RATE:
                break
            samples = longer
            said.append(text)
        samples = samples[: int(LONGEST_SECONDS * SAMPLE_RATE)]
        loudest = max(np.abs(samples).max(), 1e-4)
        return {
            "audio": to_int16(samples * (gain / loudest)),
            "text": " ".join(said),
            "language": self.language,
            "speaker": str(voice),
        }


_plan: _Plan


def _set_plan(plan: _Plan) -> None:
    global _plan
    _plan = plan


def _say(number: int) -> dict[str, Any]:
    return _plan.say(number)
