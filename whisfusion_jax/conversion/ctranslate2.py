"""A CTranslate2 Whisper directory, as faster-whisper keeps it: model.bin and its settings."""

import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import ml_dtypes
import numpy as np

from whisfusion_jax.config import TokenRules, WhisperConfig
from whisfusion_jax.conversion.checkpoint import Checkpoint, head_pairs, read_json
from whisfusion_jax.conversion.rules import Kind, LeafNames, Rule
from whisfusion_jax.errors import ConversionError

# fmt: off
NAMES = (
    Rule("encoder.conv1",                          "encoder/conv1",                              Kind.CONVOLUTION),
    Rule("encoder.conv2",                          "encoder/conv2",                              Kind.CONVOLUTION),
    Rule("encoder.positions",                      "encoder/position_encodings/encodings",       Kind.TABLE),
    Rule("encoder.blocks.*.attention_norm",        "encoder/layer_*/self_attention/layer_norm",  Kind.NORM),
    Rule("encoder.blocks.*.attention.query",       "encoder/layer_*/self_attention/linear_0",    Kind.LINEAR, 0, 3),
    Rule("encoder.blocks.*.attention.key",         "encoder/layer_*/self_attention/linear_0",    Kind.LINEAR_NO_BIAS, 1, 3),
    Rule("encoder.blocks.*.attention.value",       "encoder/layer_*/self_attention/linear_0",    Kind.LINEAR, 2, 3),
    Rule("encoder.blocks.*.attention.out",         "encoder/layer_*/self_attention/linear_1",    Kind.LINEAR),
    Rule("encoder.blocks.*.mlp_norm",              "encoder/layer_*/ffn/layer_norm",             Kind.NORM),
    Rule("encoder.blocks.*.mlp.up",                "encoder/layer_*/ffn/linear_0",               Kind.LINEAR),
    Rule("encoder.blocks.*.mlp.down",              "encoder/layer_*/ffn/linear_1",               Kind.LINEAR),
    Rule("encoder.norm",                           "encoder/layer_norm",                         Kind.NORM),
    Rule("decoder.embedding",                      "decoder/embeddings/weight",                  Kind.TABLE),
    Rule("decoder.positions",                      "decoder/position_encodings/encodings",       Kind.TABLE),
    Rule("decoder.blocks.*.attention_norm",        "decoder/layer_*/self_attention/layer_norm",  Kind.NORM),
    Rule("decoder.blocks.*.attention.query",       "decoder/layer_*/self_attention/linear_0",    Kind.LINEAR, 0, 3),
    Rule("decoder.blocks.*.attention.key",         "decoder/layer_*/self_attention/linear_0",    Kind.LINEAR_NO_BIAS, 1, 3),
    Rule("decoder.blocks.*.attention.value",       "decoder/layer_*/self_attention/linear_0",    Kind.LINEAR, 2, 3),
    Rule("decoder.blocks.*.attention.out",         "decoder/layer_*/self_attention/linear_1",    Kind.LINEAR),
    Rule("decoder.blocks.*.cross_norm",            "decoder/layer_*/attention/layer_norm",       Kind.NORM),
    Rule("decoder.blocks.*.cross_attention.query", "decoder/layer_*/attention/linear_0",         Kind.LINEAR),
    Rule("decoder.blocks.*.cross_attention.key",   "decoder/layer_*/attention/linear_1",         Kind.LINEAR_NO_BIAS, 0, 2),
    Rule("decoder.blocks.*.cross_attention.value", "decoder/layer_*/attention/linear_1",         Kind.LINEAR, 1, 2),
    Rule("decoder.blocks.*.cross_attention.out",   "decoder/layer_*/attention/linear_2",         Kind.LINEAR),
    Rule("decoder.blocks.*.mlp_norm",              "decoder/layer_*/ffn/layer_norm",             Kind.NORM),
    Rule("decoder.blocks.*.mlp.up",                "decoder/layer_*/ffn/linear_0",               Kind.LINEAR),
    Rule("decoder.blocks.*.mlp.down",              "decoder/layer_*/ffn/linear_1",               Kind.LINEAR),
    Rule("decoder.norm",                           "decoder/layer_norm",                         Kind.NORM),
)
# fmt: on

_VERSION = 6
_DTYPES = tuple(
    np.dtype(kind)
    for kind in (np.float32, np.int8, np.int16, np.int32, np.float16, ml_dtypes.bfloat16)
)
"""By CTranslate2's number of the type."""
_SCALE = "_scale"
"""Ending of the factors that an int8 or int16 tensor was multiplied by, row by row or whole."""
_TIED = "decoder/projection/weight"


@dataclass(frozen=True)
class _Entry:
    shape: tuple[int, ...]
    dtype: np.dtype
    offset: int


class CTranslate2Checkpoint(Checkpoint):
    """Reads float and quantised models; quantised tensors come out as float32."""

    names = NAMES
    leaves = LeafNames(separator="/", norm_scale="gamma", norm_bias="beta")
    ignored = frozenset({_TIED})

    def __init__(self, path: Path) -> None:
        """Read the settings and the tensors' places in model.bin.

        Raises:
            ConversionError: a file is missing, damaged or of another version, or no Whisper.
        """
        self.path = path
        self._file = path / "model.bin"
        settings = read_json(path / "config.json")
        try:
            with self._file.open("rb") as file:
                self._entries = _index(file, self._file)
        except OSError as error:
            raise ConversionError(f"{self._file}: {error.strerror}") from None
        except (EOFError, UnicodeDecodeError, IndexError):
            raise ConversionError(f"{self._file}: damaged or cut short") from None
        self.shapes = {
            name: entry.shape
            for name, entry in self._entries.items()
            if entry.shape and not name.endswith(_SCALE) and "alignment_" not in name
        }
        self.config = self._config()
        self.rules = TokenRules(
            tuple(settings.get("suppress_ids", ())), tuple(settings.get("suppress_ids_begin", ()))
        )
        self.alignment_heads = head_pairs(settings.get("alignment_heads"))

    def dtype(self, name: str) -> np.dtype:
        kind = self._entries[name].dtype
        return np.dtype(np.float32) if kind.kind == "i" else kind

    def read(self, name: str) -> np.ndarray:
        tensor = self._raw(name)
        if tensor.dtype.kind != "i":
            return tensor
        scale = self._raw(name + _SCALE).astype(np.float32)
        rows = scale.reshape(-1, *(1 for _ in tensor.shape[1:]))
        return tensor.astype(np.float32) / rows

    def _raw(self, name: str) -> np.ndarray:
        if name not in self._entries:
            raise ConversionError(f"{self._file}: {name} is missing")
        entry = self._entries[name]
        count = int(np.prod(entry.shape, dtype=np.int64))
        flat = np.fromfile(self._file, entry.dtype, count, offset=entry.offset)
        return flat.reshape(entry.shape)

    def _config(self) -> WhisperConfig:
        try:
            width, mel_bins, _ = self.shapes["encoder/conv1/weight"]
            heads = {int(self._raw(f"{half}/num_heads")) for half in ("encoder", "decoder")}
            if len(heads) != 1:
                raise ConversionError(f"{self._file}: encoder and decoder differ in heads")
            return WhisperConfig(
                mel_bins=mel_bins,
                vocabulary=self.shapes["decoder/embeddings/weight"][0],
                width=width,
                heads=heads.pop(),
                encoder_layers=self._layers("encoder"),
                decoder_layers=self._layers("decoder"),
                audio_positions=self.shapes["encoder/position_encodings/encodings"][0],
                text_positions=self.shapes["decoder/position_encodings/encodings"][0],
            )
        except KeyError as missing:
            raise ConversionError(f"{self._file}: {missing.args[0]} is missing") from None

    def _layers(self, half: str) -> int:
        found = (re.match(rf"{half}/layer_(\d+)/", name) for name in self.shapes)
        return 1 + max((int(match[1]) for match in found if match), default=-1)


def _index(file: BinaryIO, path: Path) -> dict[str, _Entry]:
    """Walk the file's headers; the format is described in docs/bundles.md."""

    def take(count: int) -> bytes:
        if len(data := file.read(count)) < count:
            raise EOFError
        return data

    def number(code: str) -> int:
        return struct.unpack(f"<{code}", take(struct.calcsize(code)))[0]

    def string() -> str:
        return take(number("H"))[:-1].decode()

    if (version := number("I")) != _VERSION:
        raise ConversionError(f"{path}: format version {version}, not {_VERSION}")
    if (spec := string()) != "WhisperSpec":
        raise ConversionError(f"{path}: holds a {spec}, not a WhisperSpec")
    number("I")  # the spec's revision
    size = path.stat().st_size
    entries = {}
    for _ in range(number("I")):
        name = string()
        shape = tuple(number("I") for _ in range(number("B")))
        dtype = _DTYPES[number("B")]
        length = number("I")
        if length != dtype.itemsize * int(np.prod(shape, dtype=np.int64)):
            raise ConversionError(f"{path}: {name} has {length} bytes, its shape {shape} does not")
        entries[name] = _Entry(shape, dtype, file.tell())
        if file.seek(length, 1) > size:
            raise ConversionError(f"{path}: cut short within {name}")
    return entries
