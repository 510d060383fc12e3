"""A TFDS builder: recordings listed in a manifest of JSON lines, or a public set's."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from whisfusion_jax.audio.read import read_audio
from whisfusion_jax.data.corpora import read_corpus
from whisfusion_jax.data.features import speech_features, to_int16
from whisfusion_jax.data.manifest import Utterance, read_manifest
from whisfusion_jax.errors import AudioError


@dataclass(kw_only=True)
class ManifestSpeechConfig(tfds.core.BuilderConfig):
    """Which recordings.

    Attributes:
        manifest: JSON lines: audio (a path beside the manifest) and text; perhaps language,
            speaker and split (`train` where it is missing). Or a directory that `read_corpus`
            knows.
        texts: whether every recording must have one.
        without_speakers: their recordings are left out of `train`, and make the split
            `unheard`.
    """

    name: str = "manifest"
    manifest: str = ""
    texts: bool = True
    without_speakers: tuple[str, ...] = ()


class ManifestSpeech(tfds.core.GeneratorBasedBuilder):
    """Recordings of any format, as samples at 16 kHz.

    Attributes:
        unreadable: what was left out while preparing, a message for each recording.
    """

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(features=speech_features())

    def _split_generators(self, dl_manager: Any) -> Mapping[str, Iterator[Any]]:
        config, self.unreadable = self.builder_config, list[str]()
        splits: dict[str, list[Utterance]] = {}
        path = Path(config.manifest)
        listed = read_corpus(path) if path.is_dir() else read_manifest(path, config.texts)
        for utterance in listed:
            held_out = utterance.speaker in config.without_speakers
            # LibriSpeech has train-clean-100 and others beside each other.
            own = "train" if utterance.split.startswith("train-") else utterance.split
            splits.setdefault("unheard" if held_out else own, []).append(utterance)
        return {name: self._generate_examples(each) for name, each in splits.items()}

    def _generate_examples(
        self, utterances: list[Utterance]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        for number, utterance in enumerate(utterances):
            try:
                samples = read_audio(utterance.audio)
            except AudioError as error:
                self.unreadable.append(str(error))
                continue
            yield (
                number,
                {
                    "audio": to_int16(samples),
                    "text": utterance.text,
                    "language": utterance.language or "",
                    "speaker": utterance.speaker or "",
                },
            )
