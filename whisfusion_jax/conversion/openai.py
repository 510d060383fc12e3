"""OpenAI's own `.pt` file: its `dims` and a state dict, read without running pickled code."""

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from whisfusion_jax.config import WhisperConfig
from whisfusion_jax.conversion.checkpoint import Checkpoint
from whisfusion_jax.conversion.rules import Kind, LeafNames, Rule
from whisfusion_jax.errors import ConversionError

# fmt: off
NAMES = (
    Rule("encoder.conv1",                          "encoder.conv1",                      Kind.CONVOLUTION),
    Rule("encoder.conv2",                          "encoder.conv2",                      Kind.CONVOLUTION),
    Rule("encoder.positions",                      "encoder.positional_embedding",       Kind.TABLE),
    Rule("encoder.blocks.*.attention_norm",        "encoder.blocks.*.attn_ln",           Kind.NORM),
    Rule("encoder.blocks.*.attention.query",       "encoder.blocks.*.attn.query",        Kind.LINEAR),
    Rule("encoder.blocks.*.attention.key",         "encoder.blocks.*.attn.key",          Kind.LINEAR_NO_BIAS),
    Rule("encoder.blocks.*.attention.value",       "encoder.blocks.*.attn.value",        Kind.LINEAR),
    Rule("encoder.blocks.*.attention.out",         "encoder.blocks.*.attn.out",          Kind.LINEAR),
    Rule("encoder.blocks.*.mlp_norm",              "encoder.blocks.*.mlp_ln",            Kind.NORM),
    Rule("encoder.blocks.*.mlp.up",                "encoder.blocks.*.mlp.0",             Kind.LINEAR),
    Rule("encoder.blocks.*.mlp.down",              "encoder.blocks.*.mlp.2",             Kind.LINEAR),
    Rule("encoder.norm",                           "encoder.ln_post",                    Kind.NORM),
    Rule("decoder.embedding",                      "decoder.token_embedding.weight",     Kind.TABLE),
    Rule("decoder.positions",                      "decoder.positional_embedding",       Kind.TABLE),
    Rule("decoder.blocks.*.attention_norm",        "decoder.blocks.*.attn_ln",           Kind.NORM),
    Rule("decoder.blocks.*.attention.query",       "decoder.blocks.*.attn.query",        Kind.LINEAR),
    Rule("decoder.blocks.*.attention.key",         "decoder.blocks.*.attn.key",          Kind.LINEAR_NO_BIAS),
    Rule("decoder.blocks.*.attention.value",       "decoder.blocks.*.attn.value",        Kind.LINEAR),
    Rule("decoder.blocks.*.attention.out",         "decoder.blocks.*.attn.out",          Kind.LINEAR),
    Rule("decoder.blocks.*.cross_norm",            "decoder.blocks.*.cross_attn_ln",     Kind.NORM),
    Rule("decoder.blocks.*.cross_attention.query", "decoder.blocks.*.cross_attn.query",  Kind.LINEAR),
    Rule("decoder.blocks.*.cross_attention.key",   "decoder.blocks.*.cross_attn.key",    Kind.LINEAR_NO_BIAS),
    Rule("decoder.blocks.*.cross_attention.value", "decoder.blocks.*.cross_attn.value",  Kind.LINEAR),
    Rule("decoder.blocks.*.cross_attention.out",   "decoder.blocks.*.cross_attn.out",    Kind.LINEAR),
    Rule("decoder.blocks.*.mlp_norm",              "decoder.blocks.*.mlp_ln",            Kind.NORM),
    Rule("decoder.blocks.*.mlp.up",                "decoder.blocks.*.mlp.0",             Kind.LINEAR),
    Rule("decoder.blocks.*.mlp.down",              "decoder.blocks.*.mlp.2",             Kind.LINEAR),
    Rule("decoder.norm",                           "decoder.ln",                         Kind.NORM),
)
# fmt: on


class OpenAICheckpoint(Checkpoint):
    """Reads what `whisper.load_model` downloads; needs torch (extra `parity`).

    The file names no tokenizer, no suppressed tokens and no alignment heads.
    """

    names = NAMES
    leaves = LeafNames(separator=".", norm_scale="weight", norm_bias="bias")
    ignored = frozenset[str]()
    rules = None
    alignment_heads = ()

    def __init__(self, path: Path) -> None:
        """Map the file and read its sizes.

        Raises:
            ConversionError: torch is missing, or the file is no Whisper checkpoint.
        """
        self.path = path
        data = load_checkpoint(path)
        if not isinstance(data, dict) or not {"dims", "model_state_dict"} <= data.keys():
            raise ConversionError(f"{path}: no OpenAI Whisper file (dims and model_state_dict)")
        self._tensors: dict[str, Any] = data["model_state_dict"]
        self.config = _config(data["dims"], path)
        self.shapes = {name: tuple(tensor.shape) for name, tensor in self._tensors.items()}

    def dtype(self, name: str) -> np.dtype:
        return as_numpy(self._tensors[name][:0]).dtype

    def read(self, name: str) -> np.ndarray:
        return as_numpy(self._tensors[name]).copy()


def load_checkpoint(path: Path, named: Path | None = None) -> Any:
    """What PyTorch saved, mapped, without running pickled code.

    Args:
        named: how errors name the file.

    Raises:
        ConversionError: torch is missing, or the file is no checkpoint.
    """
    named = named or path
    try:
        import torch
    except ImportError:
        raise ConversionError(
            f"{named}: reading PyTorch's files needs torch; install whisfusion_jax[parity]"
        ) from None
    try:
        return torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except OSError as error:
        raise ConversionError(f"{named}: {error.strerror}") from None
    except Exception as error:  # torch raises many kinds for a file that is no checkpoint
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ConversionError(f"{named}: not readable as a PyTorch checkpoint ({reason})") from None


def as_numpy(tensor: Any) -> np.ndarray:
    """A tensor's own memory as an array."""
    if str(tensor.dtype) == "torch.bfloat16":  # NumPy has no such type of its own
        import torch

        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


def _config(dims: dict[str, int], path: Path) -> WhisperConfig:
    if dims["n_audio_state"] != dims["n_text_state"] or dims["n_audio_head"] != dims["n_text_head"]:
        raise ConversionError(f"{path}: encoder and decoder differ in width or heads")
    return WhisperConfig(
        mel_bins=dims["n_mels"],
        vocabulary=dims["n_vocab"],
        width=dims["n_audio_state"],
        heads=dims["n_audio_head"],
        encoder_layers=dims["n_audio_layer"],
        decoder_layers=dims["n_text_layer"],
        audio_positions=dims["n_audio_ctx"],
        text_positions=dims["n_text_ctx"],
    )
