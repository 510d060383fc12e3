"""A Hugging Face Whisper directory: config.json and safetensors, in one file or in shards."""

from pathlib import Path

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

from whisfusion_jax.config import TokenRules, WhisperConfig
from whisfusion_jax.conversion.checkpoint import Checkpoint, head_pairs, read_json
from whisfusion_jax.conversion.rules import Kind, LeafNames, Rule
from whisfusion_jax.errors import ConversionError

# fmt: off
NAMES = (
    Rule("encoder.conv1",                         "encoder.conv1",                             Kind.CONVOLUTION),
    Rule("encoder.conv2",                         "encoder.conv2",                             Kind.CONVOLUTION),
    Rule("encoder.positions",                     "encoder.embed_positions.weight",            Kind.TABLE),
    Rule("encoder.blocks.*.attention_norm",       "encoder.layers.*.self_attn_layer_norm",     Kind.NORM),
    Rule("encoder.blocks.*.attention.query",      "encoder.layers.*.self_attn.q_proj",         Kind.LINEAR),
    Rule("encoder.blocks.*.attention.key",        "encoder.layers.*.self_attn.k_proj",         Kind.LINEAR_NO_BIAS),
    Rule("encoder.blocks.*.attention.value",      "encoder.layers.*.self_attn.v_proj",         Kind.LINEAR),
    Rule("encoder.blocks.*.attention.out",        "encoder.layers.*.self_attn.out_proj",       Kind.LINEAR),
    Rule("encoder.blocks.*.mlp_norm",             "encoder.layers.*.final_layer_norm",         Kind.NORM),
    Rule("encoder.blocks.*.mlp.up",               "encoder.layers.*.fc1",                      Kind.LINEAR),
    Rule("encoder.blocks.*.mlp.down",             "encoder.layers.*.fc2",                      Kind.LINEAR),
    Rule("encoder.norm",                          "encoder.layer_norm",                        Kind.NORM),
    Rule("decoder.embedding",                     "decoder.embed_tokens.weight",               Kind.TABLE),
    Rule("decoder.positions",                     "decoder.embed_positions.weight",            Kind.TABLE),
    Rule("decoder.blocks.*.attention_norm",       "decoder.layers.*.self_attn_layer_norm",     Kind.NORM),
    Rule("decoder.blocks.*.attention.query",      "decoder.layers.*.self_attn.q_proj",         Kind.LINEAR),
    Rule("decoder.blocks.*.attention.key",        "decoder.layers.*.self_attn.k_proj",         Kind.LINEAR_NO_BIAS),
    Rule("decoder.blocks.*.attention.value",      "decoder.layers.*.self_attn.v_proj",         Kind.LINEAR),
    Rule("decoder.blocks.*.attention.out",        "decoder.layers.*.self_attn.out_proj",       Kind.LINEAR),
    Rule("decoder.blocks.*.cross_norm",           "decoder.layers.*.encoder_attn_layer_norm",  Kind.NORM),
    Rule("decoder.blocks.*.cross_attention.query", "decoder.layers.*.encoder_attn.q_proj",     Kind.LINEAR),
    Rule("decoder.blocks.*.cross_attention.key",  "decoder.layers.*.encoder_attn.k_proj",      Kind.LINEAR_NO_BIAS),
    Rule("decoder.blocks.*.cross_attention.value", "decoder.layers.*.encoder_attn.v_proj",     Kind.LINEAR),
    Rule("decoder.blocks.*.cross_attention.out",  "decoder.layers.*.encoder_attn.out_proj",    Kind.LINEAR),
    Rule("decoder.blocks.*.mlp_norm",             "decoder.layers.*.final_layer_norm",         Kind.NORM),
    Rule("decoder.blocks.*.mlp.up",               "decoder.layers.*.fc1",                      Kind.LINEAR),
    Rule("decoder.blocks.*.mlp.down",             "decoder.layers.*.fc2",                      Kind.LINEAR),
    Rule("decoder.norm",                          "decoder.layer_norm",                        Kind.NORM),
)
"""Names as in `WhisperModel`; `WhisperForConditionalGeneration` puts `model.` in front."""
# fmt: on

_DTYPES = {
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
}


class Safetensors(Checkpoint):
    """Tensors in the directory that `save_pretrained` writes and the hub serves."""

    leaves = LeafNames(separator=".", norm_scale="weight", norm_bias="bias")

    def __init__(self, path: Path) -> None:
        """Read the tensors' names and shapes.

        Raises:
            ConversionError: a file is missing or damaged.
        """
        self.path = path
        self._files: dict[str, tuple[Path, str, str]] = {}
        self.shapes = {}
        for file in _shards(path):
            self.shapes |= self._index(file)

    def _index(self, file: Path) -> dict[str, tuple[int, ...]]:
        """A file's tensors, remembered, and their shapes."""
        shapes = {}
        try:
            with safe_open(file, "numpy") as tensors:
                for stored in list(tensors.keys()):
                    view = tensors.get_slice(stored)
                    name = stored.removeprefix("model.")
                    shapes[name] = tuple(view.get_shape())
                    self._files[name] = file, stored, view.get_dtype()
        except (SafetensorError, OSError) as error:
            raise ConversionError(f"{file}: not readable as safetensors ({error})") from None
        return shapes

    def dtype(self, name: str) -> np.dtype:
        file, stored, kind = self._files[name]
        if kind not in _DTYPES:
            raise ConversionError(f"{file}: {stored} is {kind}, not floating point")
        return _DTYPES[kind]

    def read(self, name: str) -> np.ndarray:
        # Opened anew for each tensor: a mapped file's pages count as memory until it is closed.
        file, stored, _ = self._files[name]
        with safe_open(file, "numpy") as tensors:
            return tensors.get_tensor(stored)


class HuggingFaceCheckpoint(Safetensors):
    """Whisper's."""

    names = NAMES
    ignored = frozenset({"proj_out.weight"})  # tied to the token embedding

    def __init__(self, path: Path) -> None:
        """Read the settings and the tensors' names and shapes.

        Raises:
            ConversionError: a file is missing or damaged, or the model is no Whisper.
        """
        settings = read_json(path / "config.json")
        if settings.get("model_type") != "whisper":
            raise ConversionError(
                f"{path}: model_type is {settings.get('model_type')!r}, not whisper, canary or parakeet"
            )
        self.config = _config(settings, path)
        generation = path / "generation_config.json"
        self.rules, self.alignment_heads = _generation(
            read_json(generation) if generation.exists() else settings
        )
        super().__init__(path)


def _shards(path: Path) -> list[Path]:
    index = path / "model.safetensors.index.json"
    if not index.exists():
        return [path / "model.safetensors"]
    names = sorted(set(read_json(index).get("weight_map", {}).values()))
    if any(Path(name).name != name for name in names):
        raise ConversionError(f"{index}: names a file outside the directory")
    return [path / name for name in names]


def _config(settings: dict, path: Path) -> WhisperConfig:
    try:
        config = WhisperConfig(
            mel_bins=settings["num_mel_bins"],
            vocabulary=settings["vocab_size"],
            width=settings["d_model"],
            heads=settings["encoder_attention_heads"],
            encoder_layers=settings["encoder_layers"],
            decoder_layers=settings["decoder_layers"],
            audio_positions=settings["max_source_positions"],
            text_positions=settings["max_target_positions"],
        )
    except KeyError as missing:
        raise ConversionError(f"{path}/config.json lacks {missing}") from None
    if settings.get("decoder_attention_heads", config.heads) != config.heads:
        raise ConversionError(f"{path}: encoder and decoder have different numbers of heads")
    return config


def _generation(settings: dict) -> tuple[TokenRules | None, tuple[tuple[int, int], ...]]:
    heads = head_pairs(settings.get("alignment_heads"))
    suppress, first = settings.get("suppress_tokens"), settings.get("begin_suppress_tokens")
    if suppress is None or first is None:
        return None, heads
    return TokenRules(tuple(suppress), tuple(first)), heads
