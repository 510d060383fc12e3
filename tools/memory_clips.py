"""Make the clips in whisfusion_jax/assets, from which padding memories are made by default.

python -m tools.memory_clips FSDD whisfusion_jax/assets

FSDD is a directory with the Free Spoken Digit Dataset's manifest.jsonl. Each clip joins nine
digits of one speaker; recordings of its test split and the speaker `theo`, on whom digits are
tested, are left out.
"""

import wave
from pathlib import Path

import numpy as np
import tyro

from whisfusion_jax.audio.arrays import SAMPLE_RATE
from whisfusion_jax.audio.read import read_audio
from whisfusion_jax.cli import run

SPEAKERS = ("george", "jackson", "lucas", "nicolas")
CLIPS = 6
DIGITS = 9


def memory_clips(fsdd: tyro.conf.Positional[Path], out: tyro.conf.Positional[Path]) -> int:
    """Join recordings of single digits into a few clips of speech.

    Args:
        fsdd: Directory of the Free Spoken Digit Dataset.
        out: Where the clips go.
    """
    random = np.random.default_rng(0)
    for clip in range(CLIPS):
        speaker = SPEAKERS[clip % len(SPEAKERS)]
        takes = random.integers(5, 50, DIGITS)  # 0 to 4 are the test split
        spoken = [
            read_audio(fsdd / "audio" / f"{digit}_{speaker}_{take}.flac")
            for digit, take in zip(random.integers(10, size=DIGITS), takes, strict=True)
        ]
        samples = (np.concatenate(spoken) * 32767).clip(-32768, 32767).astype("<i2")
        with wave.open(str(out / f"digits_{clip}_{speaker}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(SAMPLE_RATE)
            file.writeframes(samples.tobytes())
    return 0


if __name__ == "__main__":
    run(lambda: tyro.cli(memory_clips))
