"""Prepare sets to train on: made speech, or recordings listed in a manifest.

python -m tools.prepare_speech made --sentences en.txt --language en --utterances 20000
python -m tools.prepare_speech recorded --manifest digits/manifest.jsonl --without-speakers theo
"""

import sys
from pathlib import Path
from typing import Any

import tyro

from whisfusion_jax.cli import run
from whisfusion_jax.data.manifest_speech import ManifestSpeech, ManifestSpeechConfig
from whisfusion_jax.data.synthetic_speech import SyntheticSpeech, SyntheticSpeechConfig
from whisfusion_jax.errors import WhisfusionError

PART = 5000
"""Utterances in a directory: TFDS sorts a split in memory up to 1 GB, about twice as many."""


def made(
    sentences: Path,
    language: str = "en",
    utterances: int = 20_000,
    test_utterances: int = 300,
    seed: int = 0,
    data_dir: Path = Path("data"),
) -> int:
    """Let every voice at hand speak sentences.

    Writes DATA_DIR/synthetic_speech/LANGUAGE_0/1.0.0 and so on; the last 1,000 sentences make the
    split `test` of the first. What is there already stays.

    Args:
        sentences: A text file, a sentence a line, more than 1,000.
        language: Of the sentences, such as en.
        utterances: To train on.
        test_utterances: Of the held-out sentences.
        seed: Of every choice.
        data_dir: Where prepared sets lie.
    """
    if not sentences.is_file():
        raise WhisfusionError(f"{sentences}: no such file")
    for part, first in enumerate(range(0, utterances, PART)):
        config = SyntheticSpeechConfig(
            name=f"{language}_{part}",
            sentences=str(sentences),
            language=language,
            utterances=min(PART, utterances - first),
            first=first,
            test_utterances=test_utterances if part == 0 else 1,
            seed=seed,
        )
        _prepare(SyntheticSpeech, config, data_dir)
    return 0


def recorded(
    manifest: Path,
    name: str | None = None,
    without_speakers: tuple[str, ...] = (),
    data_dir: Path = Path("data"),
) -> int:
    """Take over recordings.

    Writes DATA_DIR/manifest_speech/NAME/1.0.0, with the manifest's own splits.

    Args:
        manifest: JSON lines, each with audio (a path beside the manifest) and text, and perhaps
            language, speaker and split.
        name: Of the set; without it the manifest's directory gives it.
        without_speakers: Their recordings are left out, and make the split `unheard`.
        data_dir: Where prepared sets lie.
    """
    if not manifest.is_file():
        raise WhisfusionError(f"{manifest}: no such file")
    config = ManifestSpeechConfig(
        name=name or manifest.resolve().parent.name,
        manifest=str(manifest),
        without_speakers=without_speakers,
    )
    _prepare(ManifestSpeech, config, data_dir)
    return 0


def _prepare(builder: Any, config: Any, data_dir: Path) -> None:
    prepared = builder(config=config, data_dir=data_dir, file_format="array_record")
    prepared.download_and_prepare()
    unreadable = getattr(prepared, "unreadable", ())
    for message in unreadable:
        print(f"left out: {message}", file=sys.stderr)
    if unreadable:
        print(f"{len(unreadable)} recordings were left out", file=sys.stderr)
    print(prepared.data_dir)


if __name__ == "__main__":
    run(lambda: tyro.extras.subcommand_cli_from_dict({"made": made, "recorded": recorded}))
