"""NeMo's archive: a tar of its settings, its weights and a SentencePiece tokenizer."""

import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import IO, Any, Self

import numpy as np
import yaml

from whisfusion_jax.config import FastConformerConfig
from whisfusion_jax.conversion.openai import as_numpy, load_checkpoint
from whisfusion_jax.errors import ConversionError

_SETTINGS, _WEIGHTS = "model_config.yaml", "model_weights.ckpt"
_TOKENIZER = "tokenizer.model"
_MOST = 64 * 2**20
"""Bytes of settings or a tokenizer; larger is none."""

_SIZES = {
    "feat_in": "mel_bins", "d_model": "width", "n_heads": "heads", "n_layers": "layers",
    "subsampling_conv_channels": "channels", "conv_kernel_size": "taps", "use_bias": "bias",
    "xscaling": "scaled",
}  # fmt: skip
"""NeMo's names of our settings."""
_DEFAULTS = {"subsampling_conv_channels": -1, "use_bias": True, "xscaling": True}
"""What NeMo takes where an older archive says nothing; -1 is the width."""
_ONLY: Mapping[str, tuple[Any, ...]] = {
    "subsampling": ("dw_striding",),
    "subsampling_factor": (8,),
    "self_attention_model": ("rel_pos",),
    "conv_norm_type": ("batch_norm",),
    "untie_biases": (True,),
    "feat_out": (-1, None),
    "att_context_style": ("regular",),
    "causal_downsampling": (False,),
    "conv_context_size": (None,),
    "reduction": (None,),
}
"""Settings of which one kind of encoder is known here."""
_TRAINING = (
    "_target_", "ff_expansion_factor", "pos_emb_max_len", "reduction_position", "reduction_factor",
    "use_pytorch_sdpa", "use_pytorch_sdpa_backends", "sync_max_audio_length",
)  # fmt: skip
"""Settings that change no output here."""


class NemoArchive:
    """An opened archive, its weights in a folder aside until it is closed."""

    def __init__(self, path: Path) -> None:
        """Unpack what is needed.

        Raises:
            ConversionError: torch is missing, or the file is no whole NeMo archive.
        """
        self.path = path
        self._folder = TemporaryDirectory(prefix="whisfusion-nemo-")
        try:
            with tarfile.open(path, "r:*") as archive:
                members = _members(archive, path)
                self.settings = _settings(
                    _file(archive, members, _SETTINGS, _MOST, path).read(), path
                )
                self._models = {
                    name: _file(archive, members, name, _MOST, path).read()
                    for name in members
                    if name.endswith(_TOKENIZER)
                }
                # Put aside, as torch maps a file of its own.
                weights = Path(self._folder.name) / "weights.ckpt"
                room = shutil.disk_usage(weights.parent).free
                with weights.open("wb") as copy:
                    shutil.copyfileobj(_file(archive, members, _WEIGHTS, room, path), copy)
            self._tensors: dict[str, Any] = load_checkpoint(weights, named=path)
        except (OSError, tarfile.TarError, EOFError) as error:
            self.close()
            reason = getattr(error, "strerror", None) or error
            raise ConversionError(f"{path}: not readable as a NeMo archive ({reason})") from None
        except ConversionError:
            self.close()
            raise
        self.shapes = {name: tuple(tensor.shape) for name, tensor in self._tensors.items()}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove what was unpacked."""
        self._folder.cleanup()

    def tokenizers(self) -> tuple[list[bytes], int]:
        """SentencePiece models whose tokens stand one behind the other, and which is English's.

        Raises:
            ConversionError: the settings name none that is there.
        """
        named = self.settings.get("tokenizer")
        named = named if isinstance(named, Mapping) else {}
        several = named.get("langs") if named.get("type") == "agg" else {"en": named}
        if not isinstance(several, Mapping) or not several:
            raise ConversionError(f"{self.path}: its settings name no tokenizer")
        main = list(several).index("en") if "en" in several else len(several) - 1
        found = []
        for each in several.values():
            name = str(each.get("model_path", "")).removeprefix("nemo:")
            if name not in self._models:
                raise ConversionError(f"{self.path}: has no tokenizer {name or _TOKENIZER}")
            found.append(self._models[name])
        return found, main

    def dtype(self, name: str) -> np.dtype:
        return as_numpy(self._tensors[name][:0]).dtype

    def read(self, name: str) -> np.ndarray:
        return as_numpy(self._tensors[name]).copy()


def encoder_config(
    settings: Mapping[str, Any], path: Path
) -> tuple[FastConformerConfig, list[str]]:
    """The sizes of an archive's encoder, and its settings that were passed over by name.

    Those of training (dropout, stochastic depth) and of streaming change nothing here.

    Raises:
        ConversionError: a size is missing, or the encoder is of another kind.
    """
    encoder = settings.get("encoder")
    if not isinstance(encoder, Mapping):
        raise ConversionError(f"{path}: its settings name no encoder")
    for key, known in _ONLY.items():
        if key in encoder and encoder[key] not in known:
            wanted = " or ".join(map(str, known))
            raise ConversionError(f"{path}: encoder.{key} is {encoder[key]!r}, not {wanted}")
    if not str(encoder.get("_target_", "ConformerEncoder")).endswith("ConformerEncoder"):
        raise ConversionError(f"{path}: the encoder is a {encoder['_target_']}, no FastConformer")
    if (context := encoder.get("att_context_size")) not in (None, [-1, -1]):
        raise ConversionError(f"{path}: encoder.att_context_size is {context}, not the whole")
    sizes = {ours: encoder.get(theirs, _DEFAULTS.get(theirs)) for theirs, ours in _SIZES.items()}
    if missing := [theirs for theirs, ours in _SIZES.items() if sizes[ours] is None]:
        raise ConversionError(f"{path}: the encoder's settings lack {', '.join(missing)}")
    if sizes["channels"] == -1:
        sizes["channels"] = sizes["width"]
    hidden = encoder.get("ff_expansion_factor", 4) * sizes["width"]
    told = {*_SIZES, *_ONLY, *_TRAINING, "att_context_size"}
    passed = sorted(
        key for key in encoder if key not in told and not key.startswith(("dropout", "stochastic"))
    )
    return FastConformerConfig(**sizes, hidden=hidden), passed


def _members(archive: tarfile.TarFile, path: Path) -> dict[str, tarfile.TarInfo]:
    """Plain files by name, none of which leads out of the archive."""
    members = {}
    for member in archive:
        name = PurePosixPath(member.name)
        if member.isdir():
            continue
        if not member.isreg() or name.is_absolute() or ".." in name.parts:
            raise ConversionError(f"{path}: {member.name} is no plain file of the archive's own")
        members[name.name] = member
    return members


def _file(
    archive: tarfile.TarFile,
    members: Mapping[str, tarfile.TarInfo],
    name: str,
    most: int,
    path: Path,
) -> IO[bytes]:
    """A member of at most so many bytes, to read."""
    if name not in members:
        raise ConversionError(f"{path}: no NeMo archive, it has no {name}")
    if (size := members[name].size) > most:
        raise ConversionError(f"{path}: {name} has {size} bytes, more than the {most} there may be")
    file = archive.extractfile(members[name])
    assert file is not None  # a plain file
    return file


def _settings(text: bytes, path: Path) -> dict[str, Any]:
    try:
        settings = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConversionError(f"{path}: {_SETTINGS} is no YAML ({error})") from None
    if not isinstance(settings, dict):
        raise ConversionError(f"{path}: {_SETTINGS} holds no settings")
    return settings
