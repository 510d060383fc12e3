"""A run so small that it learns eight utterances by heart in seconds."""

import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.support import TINY, manifest, random_bundle
from whisfusion_jax.audio.read import read_audio
from whisfusion_jax.config import OptimizerConfig, PhaseConfig, TrainConfig
from whisfusion_jax.conversion.memory import add_memory
from whisfusion_jax.data.manifest_speech import ManifestSpeech, ManifestSpeechConfig
from whisfusion_jax.hub import CLIPS

WORDS = "red green blue white black grey pink brown".split()  # noqa: SIM905


def spoken(number: int) -> np.ndarray:
    """The sound that stands for a word: a tone of its own, [samples] float32, 1.5 s at 16 kHz."""
    pitch = 200 * 1.5**number
    return 0.3 * np.sin(2 * np.pi * pitch * np.arange(24_000) / 16_000).astype(np.float32)


def write_wave(path: Path, samples: np.ndarray) -> None:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes((samples * 32767).astype(np.int16).tobytes())


def tiny_run(folder: Path, sound: Callable[[int], np.ndarray] = spoken) -> TrainConfig:
    """Its data, its Whisper of random weights and its config, in a folder."""
    bundle = random_bundle(folder / "whisper", TINY)
    add_memory(bundle, [read_audio(clip) for clip in sorted(CLIPS.glob("*.wav"))])
    rows = []
    for number, word in enumerate(WORDS):
        write_wave(folder / f"{number}.wav", sound(number))
        speaker = "a" if number else "b"
        row = {"audio": f"{number}.wav", "text": word, "language": "en", "speaker": speaker}
        rows.append(row)
    manifest(folder / "manifest.jsonl", rows)
    builder = ManifestSpeech(
        config=ManifestSpeechConfig(name="colours", manifest=str(folder / "manifest.jsonl")),
        data_dir=folder / "data",
        file_format="array_record",
    )
    builder.download_and_prepare()
    (folder / "sentences.txt").write_text("\n".join(WORDS))
    return TrainConfig(
        work=folder / "work",
        data=(Path(builder.data_dir),),
        sentences=(folder / "sentences.txt",),
        bundle=str(bundle.path),
        commonest=0,
        phases=(PhaseConfig(100, ("ahead", "uniform")), PhaseConfig(100, ("high_mask", "ahead"))),
        optimizer=OptimizerConfig(rate=1e-2, warmup=20, average=0.9),
        learned=(".*",),
        augmented=0.0,
        joined=0.0,
        wordless=0.0,
        positions=16 * 4 * 8,
        canvases=4,
        teacher=0.0,
        save_every=100,
        dev=folder / "manifest.jsonl",
    )
