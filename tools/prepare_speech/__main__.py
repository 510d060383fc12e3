"""Prepare sets to train on: made speech, recordings listed in a manifest, public sets.

python -m tools.prepare_speech made --sentences en.txt --language en --utterances 20000
python -m tools.prepare_speech recorded --manifest digits/manifest.jsonl --without-speakers theo
python -m tools.prepare_speech corpus LibriSpeech
python -m tools.prepare_speech voice-acting queen.1c
python -m tools.prepare_speech captions usr/share/tuxpaint/stamps
python -m tools.prepare_speech prompts usr/share/asterisk/sounds
"""

import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import tyro

from tools.prepare_speech import public_sets, read_aloud
from tools.prepare_speech.voice_acting import unpack_speech
from whisfusion_jax.cli import run
from whisfusion_jax.data.manifest_speech import ManifestSpeech, ManifestSpeechConfig
from whisfusion_jax.data.synthetic_speech import SyntheticSpeech, SyntheticSpeechConfig
from whisfusion_jax.data.voices import ENGINES, installed, voices_for
from whisfusion_jax.errors import WhisfusionError

PART = 5000
"""Utterances in a directory: TFDS sorts a split in memory up to 1 GB, about twice as many."""


def made(
    sentences: Path,
    language: str = "en",
    utterances: int = 20_000,
    test_utterances: int = 300,
    engines: tuple[str, ...] = (),
    seed: int = 0,
    data_dir: Path = Path("data"),
) -> int:
    """Let every voice at hand speak sentences.

    Writes DATA_DIR/synthetic_speech/LANGUAGE_0/1.0.0 and so on; of the last 1,000 sentences, a
    fifth at most, is the split `test` of the first. What is there already stays.

    Args:
        sentences: A text file, a sentence a line.
        language: Of the sentences, such as en.
        utterances: To train on.
        test_utterances: Of the held-out sentences.
        engines: That speak, such as espeak; without any named all that are installed.
        seed: Of every choice.
        data_dir: Where prepared sets lie.
    """
    if not sentences.is_file():
        raise WhisfusionError(f"{sentences}: no such file")
    if unknown := set(engines) - set(ENGINES):
        raise WhisfusionError(f"--engines {min(unknown)}: known are {', '.join(ENGINES)}")
    voices = installed(
        [each for each in voices_for(language) if not engines or each.engine in engines]
    )
    for part, first in enumerate(range(0, utterances, PART)):
        config = SyntheticSpeechConfig(
            name=f"{language}_{part}",
            sentences=str(sentences),
            language=language,
            utterances=min(PART, utterances - first),
            first=first,
            test_utterances=test_utterances if part == 0 else 1,
            voices=voices,
            seed=seed,
        )
        _prepare(SyntheticSpeech, config, data_dir)
    return 0


def recorded(
    manifest: Path,
    name: str | None = None,
    without_speakers: tuple[str, ...] = (),
    without_texts: bool = False,
    data_dir: Path = Path("data"),
) -> int:
    """Take over recordings.

    Writes DATA_DIR/manifest_speech/NAME/1.0.0, with the manifest's own splits.

    Args:
        manifest: JSON lines, each with audio (a path beside the manifest) and text, and perhaps
            language, speaker and split.
        name: Of the set; without it the manifest's directory gives it.
        without_speakers: Their recordings are left out, and make the split `unheard`.
        without_texts: Lines may lack a text: for training on what Whisper hears (`--heard`).
        data_dir: Where prepared sets lie.
    """
    if not manifest.is_file():
        raise WhisfusionError(f"{manifest}: no such file")
    config = ManifestSpeechConfig(
        name=name or manifest.resolve().parent.name,
        manifest=str(manifest),
        texts=not without_texts,
        without_speakers=without_speakers,
    )
    _prepare(ManifestSpeech, config, data_dir)
    return 0


def corpus(
    directory: tyro.conf.Positional[Path], name: str | None = None, data_dir: Path = Path("data")
) -> int:
    """Take over a public set as unpacked.

    LibriSpeech, MLS, Common Voice, FLEURS, VoxPopuli, AISHELL-1, ReazonSpeech, Zeroth, VCTK.

    Writes DATA_DIR/manifest_speech/NAME/1.0.0, with the set's own splits; what LibriSpeech has for
    training is one, `train`.

    Args:
        directory: The set's.
        name: Of what is written; without it the directory's.
        data_dir: Where prepared sets lie.
    """
    found = name or directory.resolve().name
    _prepare(ManifestSpeech, ManifestSpeechConfig(name=found, manifest=str(directory)), data_dir)
    return 0


def public() -> int:
    """List public sets in eleven languages: hours, licenses, where from, how to prepare them."""
    public_sets.show()
    return 0


def voice_acting(
    game: tyro.conf.Positional[Path], name: str = "voiceacting", data_dir: Path = Path("data")
) -> int:
    """Take over the spoken lines of a game, without texts: to be `heard`.

    Flight of the Amazon Queen: about twenty actors, 264 minutes, English; Drascula: 42 minutes of
    Spanish, 48 of English. Both freeware (their readmes are to be kept with them), as Debian's
    packages flight-of-the-amazon-queen, drascula-spanish and drascula have them.

    Args:
        game: The first one's queen.1c, or the second one's directory es or en.
        name: Of what is written.
        data_dir: Where prepared sets lie.
    """
    with TemporaryDirectory() as folder:
        manifest = unpack_speech(game, Path(folder))
        config = ManifestSpeechConfig(name=name, manifest=str(manifest), texts=False)
        _prepare(ManifestSpeech, config, data_dir)
    return 0


def captions(
    stamps: tyro.conf.Positional[Path],
    languages: tuple[str, ...] = ("fr", "es", "ru", "ca", "ro", "bg", "el", "be", "da"),
    data_dir: Path = Path("data"),
) -> int:
    """Take over captions of pictures that people read aloud (GPL), a set each language.

    Of Debian's package tuxpaint-stamps-default. One picture in eight makes the split `test`.

    Args:
        stamps: Its directory usr/share/tuxpaint/stamps.
        languages: Those to take.
    """
    for language in languages:
        _prepare_rows(read_aloud.captions(stamps, language), f"captions_{language}", data_dir)
    return 0


def prompts(
    sounds: tyro.conf.Positional[Path], name: str | None = None, data_dir: Path = Path("data")
) -> int:
    """Take over telephone prompts (CC BY-SA, GPL, BSD), without texts: to be `heard`.

    Of Debian's packages asterisk-core-sounds-es-wav and of fr, it, ru, and asterisk-prompt-es-co,
    asterisk-prompt-fr-armelle, asterisk-prompt-it-menardi-wav; English ones are test data, and
    refused. One prompt in eight makes the split `test`.

    Args:
        sounds: A package's directory usr/share/asterisk/sounds.
        name: Of what is written; without it prompts_LANGUAGE.
    """
    rows = read_aloud.prompts(sounds)
    _prepare_rows(rows, name or rows[0]["source"], data_dir)
    return 0


def _prepare_rows(rows: list[dict[str, Any]], name: str, data_dir: Path) -> None:
    with TemporaryDirectory() as folder:
        manifest = read_aloud.write_manifest(rows, Path(folder))
        config = ManifestSpeechConfig(name=name, manifest=str(manifest), texts=False)
        _prepare(ManifestSpeech, config, data_dir)


def _prepare(builder: Any, config: Any, data_dir: Path) -> None:
    prepared = builder(config=config, data_dir=data_dir, file_format="array_record")
    prepared.download_and_prepare()
    unreadable = getattr(prepared, "unreadable", ())
    for message in unreadable:
        print(f"left out: {message}", file=sys.stderr)
    if unreadable:
        print(f"{len(unreadable)} recordings were left out", file=sys.stderr)
    print(prepared.data_dir)


_COMMANDS: dict[str, Callable[..., int]] = {
    "made": made, "recorded": recorded, "corpus": corpus, "public": public,
    "voice-acting": voice_acting, "captions": captions, "prompts": prompts,
}  # fmt: skip


if __name__ == "__main__":
    run(lambda: tyro.extras.subcommand_cli_from_dict(_COMMANDS))
