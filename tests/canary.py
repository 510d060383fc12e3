"""A small Canary with random weights, in transformers' layout and in NeMo's."""

import io
import json
import struct
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from flax import nnx
from safetensors.numpy import save_file

from tests.checkpoint_writers import theirs
from tests.support import random_tensors
from whisfusion_jax.bundle import Bundle, named_variables
from whisfusion_jax.config import CanaryConfig, FastConformerConfig
from whisfusion_jax.conversion import canary
from whisfusion_jax.conversion.fastconformer import nemo_rules, transformers_rules
from whisfusion_jax.conversion.sentencepiece import tokenizer_json

SPECIAL = (
    "<|nospeech|>", "<pad>", "<|endoftext|>", "<|startoftranscript|>", "<|pnc|>",
    "<|startofcontext|>", "<|noitn|>", "<|notimestamp|>", "<|nodiarize|>", "<|emo:undefined|>",
    "<|en|>", "<|de|>",
)  # fmt: skip
LETTERS = "▁abcdefghijklmnopqrstuvwxyz"
_UNKNOWN, _USER_DEFINED, _PLAIN = 2, 4, 1

SMALL = CanaryConfig(
    encoder=FastConformerConfig(
        mel_bins=80, width=32, heads=4, layers=2, hidden=64, channels=8, taps=5, bias=False
    ),
    vocabulary=48, width=32, heads=2, hidden=48, decoder_layers=2, text_positions=128,
)  # fmt: skip
"""With eight rows of its table that no token has."""


def pieces(special: bool = True, plain: bool = True) -> bytes:
    """A SentencePiece model: special tokens first, as Canary's has them, then letters."""
    known = [("<unk>", _UNKNOWN)]
    known += [(name, _USER_DEFINED) for name in SPECIAL] if special else []
    known += [(letter, _PLAIN) for letter in LETTERS] if plain else [("▁", _PLAIN)]
    return b"".join(
        _field(1, _field(1, text.encode()) + b"\x15" + struct.pack("<f", -1.0) + bytes([24, kind]))
        for text, kind in known
    )


def with_taps(stored: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Pointwise convolutions have a single tap there."""
    return {
        name: each[..., None] if "pointwise_conv" in name and each.ndim == 2 else each
        for name, each in stored.items()
    }


def _field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2, len(content)]) + content


def tensors(config: CanaryConfig = SMALL, seed: int = 0) -> dict[str, np.ndarray]:
    """Weights by our names; rows of tables as Canary counts tokens."""
    found = random_tensors(config, seed)
    for name in found:
        if name.endswith("variance"):
            found[name] = np.abs(found[name]) + 0.5
    return found


def transformers_encoder(encoder: FastConformerConfig) -> dict[str, Any]:
    """Its settings."""
    return {
        "model_type": "parakeet_encoder", "num_mel_bins": encoder.mel_bins,
        "hidden_size": encoder.width, "num_attention_heads": encoder.heads,
        "num_hidden_layers": encoder.layers, "intermediate_size": encoder.hidden,
        "subsampling_conv_channels": encoder.channels, "conv_kernel_size": encoder.taps,
        "attention_bias": encoder.bias, "convolution_bias": encoder.bias,
        "scale_input": encoder.scaled,
    }  # fmt: skip


def nemo_encoder(encoder: FastConformerConfig) -> dict[str, Any]:
    """Its settings."""
    return {
        "_target_": "nemo.collections.asr.modules.ConformerEncoder",
        "feat_in": encoder.mel_bins, "feat_out": -1, "n_layers": encoder.layers,
        "d_model": encoder.width, "use_bias": encoder.bias, "subsampling": "dw_striding",
        "subsampling_factor": 8, "subsampling_conv_channels": encoder.channels,
        "ff_expansion_factor": encoder.hidden // encoder.width, "n_heads": encoder.heads,
        "self_attention_model": "rel_pos", "att_context_size": [-1, -1],
        "xscaling": encoder.scaled, "conv_kernel_size": encoder.taps,
        "conv_norm_type": "batch_norm", "dropout": 0.1,
    }  # fmt: skip


def write_transformers(path: Path, config: CanaryConfig, weights: dict[str, np.ndarray]) -> Path:
    """A directory as `CanaryForConditionalGeneration.save_pretrained` leaves it."""
    path.mkdir(parents=True)
    encoder = config.encoder
    settings = {
        "model_type": "canary",
        "encoder_config": transformers_encoder(encoder),
        "decoder_config": {
            "vocab_size": config.vocabulary, "hidden_size": config.width,
            "num_attention_heads": config.heads, "num_key_value_heads": config.heads,
            "head_dim": config.width // config.heads, "intermediate_size": config.hidden,
            "num_hidden_layers": config.decoder_layers,
            "max_position_embeddings": config.text_positions,
        },
        "vocab_size": config.vocabulary,
    }  # fmt: skip
    (path / "config.json").write_text(json.dumps(settings))
    (path / "tokenizer.json").write_text(tokenizer_json([pieces()]))
    rules = (*transformers_rules(encoder), *canary.TRANSFORMERS)
    computed = {"decoder.positions": canary.sinusoids(config.text_positions, config.width)}
    weights = {name: weights[name] for name in weights if name not in computed}
    stored = theirs(weights, rules, canary.TransformersCanary.leaves, config.layers)
    stored = with_taps(stored)
    named = {f"model.{name}" if name != "proj_out.bias" else name: stored[name] for name in stored}
    for layer in range(config.decoder_layers):
        for part in ("self_attn", "encoder_attn"):
            zeros = np.zeros(config.width, np.float32)
            named[f"model.decoder.layers.{layer}.{part}.k_proj.bias"] = zeros
    for layer in range(encoder.layers):
        counted = f"model.encoder.layers.{layer}.conv.norm.num_batches_tracked"
        named[counted] = np.zeros((), np.int64)
    save_file(named, path / "model.safetensors", metadata={"format": "pt"})
    return path


def write_nemo(
    path: Path, config: CanaryConfig, weights: dict[str, np.ndarray], several: bool = False
) -> Path:
    """An archive as NeMo's `save_to` leaves it; needs torch.

    Args:
        several: an aggregate of tokenizers, special tokens in one of their own.
    """
    encoder = config.encoder
    settings = {
        "target": "nemo.collections.asr.models.aed_multitask_models.EncDecMultiTaskModel",
        "encoder": nemo_encoder(encoder),
        "transf_encoder": {"num_layers": 0},
        "transf_decoder": {
            "config_dict": {
                "hidden_size": config.width, "inner_size": config.hidden,
                "num_layers": config.decoder_layers, "num_attention_heads": config.heads,
                "max_sequence_length": config.text_positions, "pre_ln": True,
                "pre_ln_final_layer_norm": True, "hidden_act": "relu", "vocab_size": None,
            },
        },
        "head": {"num_classes": config.vocabulary},
        "tokenizer": {"type": "bpe", "model_path": "nemo:0a_tokenizer.model"},
    }  # fmt: skip
    models = {"0a_tokenizer.model": pieces()}
    if several:
        models = {"0a_tokenizer.model": pieces(plain=False), "0b_tokenizer.model": pieces(False)}
        settings["tokenizer"] = {
            "type": "agg",
            "langs": {
                "spl_tokens": {"model_path": "nemo:0a_tokenizer.model", "type": "bpe"},
                "en": {"model_path": "nemo:0b_tokenizer.model", "type": "bpe"},
            },
        }
    rules = (*nemo_rules(encoder), *canary.NEMO)
    stored = theirs(weights, rules, canary.NemoCanary.leaves, config.layers)
    stored = with_taps(stored)
    stored["log_softmax.mlp.layer0.weight"] = stored[canary.NEMO[0].theirs]
    stored["preprocessor.featurizer.window"] = np.ones(400, np.float32)
    for layer in range(config.decoder_layers):
        for part in ("first_sub_layer", "second_sub_layer"):
            name = f"transf_decoder._decoder.layers.{layer}.{part}.key_net.bias"
            stored[name] = np.zeros(config.width, np.float32)
    return write_archive(path, settings, stored, models)


def write_archive(
    path: Path,
    settings: dict[str, Any],
    stored: dict[str, np.ndarray],
    models: dict[str, bytes],
) -> Path:
    """A tar of settings, tensors and tokenizers; needs torch."""
    import torch

    weights_file = io.BytesIO()
    torch.save({name: torch.from_numpy(each.copy()) for name, each in stored.items()}, weights_file)
    files = {
        "model_config.yaml": yaml.safe_dump(settings).encode(),
        "model_weights.ckpt": weights_file.getvalue(),
        **models,
    }
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def stored(bundle: Bundle) -> dict[str, np.ndarray]:
    """All pre-trained weights of a bundle, by name."""
    parts: dict[str, nnx.Module] = {"encoder": bundle.load_encoder()}
    if bundle.has_decoder:
        parts["decoder"] = bundle.load_decoder()
    if bundle.config.ctc:
        parts["ctc"] = bundle.load_ctc()
    return {
        f"{part}.{name}": np.asarray(variable[...])
        for part, module in parts.items()
        for name, variable in named_variables(nnx.state(module)).items()
    }
