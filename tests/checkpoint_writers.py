"""Bundles back to other people's formats, so that readers are tested against whole files."""

import json
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer

from whisfusion_jax.config import TokenRules, WhisperConfig
from whisfusion_jax.conversion import ctranslate2, huggingface, openai
from whisfusion_jax.conversion.rules import LeafNames, Rule, plan

Tensors = Mapping[str, np.ndarray]


def theirs(
    tensors: Tensors, rules: tuple[Rule, ...], leaves: LeafNames, layers: Mapping[str, int]
) -> dict[str, np.ndarray]:
    """Our tensors under another format's names and layout, stacked parts joined."""
    sources = plan(rules, leaves, layers)
    parts: dict[str, dict[int, np.ndarray]] = {}
    for ours, at in sources.tensors.items():
        back = tensors[ours].transpose(np.argsort(at.axes)) if at.axes else tensors[ours]
        parts.setdefault(at.name, {})[at.part] = back
    for at in sources.zeros:
        like = next(iter(parts[at.name].values()))
        parts[at.name][at.part] = np.zeros_like(like)
    return {
        name: np.ascontiguousarray(np.concatenate([piece[i] for i in sorted(piece)]))
        for name, piece in parts.items()
    }


def huggingface_settings(config: WhisperConfig, rules: TokenRules) -> tuple[dict, dict]:
    """The contents of config.json and generation_config.json."""
    settings = {
        "model_type": "whisper",
        "architectures": ["WhisperForConditionalGeneration"],
        "num_mel_bins": config.mel_bins,
        "vocab_size": config.vocabulary,
        "d_model": config.width,
        "encoder_attention_heads": config.heads,
        "decoder_attention_heads": config.heads,
        "encoder_layers": config.encoder_layers,
        "decoder_layers": config.decoder_layers,
        "encoder_ffn_dim": 4 * config.width,
        "decoder_ffn_dim": 4 * config.width,
        "max_source_positions": config.audio_positions,
        "max_target_positions": config.text_positions,
        "tie_word_embeddings": True,
    }
    # transformers fills these with tokens of the published vocabulary where they are absent
    special = {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0, "decoder_start_token_id": 0}
    if config.vocabulary < 50_000:
        settings |= special
    generation = {
        "suppress_tokens": list(rules.suppress),
        "begin_suppress_tokens": list(rules.suppress_first),
    }
    return settings, generation


def write_huggingface(
    path: Path, config: WhisperConfig, rules: TokenRules, tensors: Tensors, tokenizer: str,
    shards: int = 1,
) -> Path:  # fmt: skip
    """A directory as `WhisperForConditionalGeneration.save_pretrained` leaves it."""
    path.mkdir(parents=True)
    settings, generation = huggingface_settings(config, rules)
    (path / "config.json").write_text(json.dumps(settings))
    (path / "generation_config.json").write_text(json.dumps(generation))
    (path / "tokenizer.json").write_text(tokenizer)
    reader = huggingface.HuggingFaceCheckpoint
    named = theirs(tensors, huggingface.NAMES, reader.leaves, config.layers)
    stored = {"model." + name: tensor for name, tensor in named.items()}
    if shards == 1:
        save_file(stored, path / "model.safetensors", metadata={"format": "pt"})
        return path
    names = sorted(stored)
    weight_map = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        chosen = names[shard::shards]
        save_file({name: stored[name] for name in chosen}, path / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(chosen, file)
    index = {"metadata": {}, "weight_map": weight_map}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))
    return path


def write_openai(path: Path, config: WhisperConfig, tensors: Tensors, tokenizer: str) -> Path:
    """A `.pt` file as OpenAI publishes it, the tokenizer beside it; needs torch."""
    import torch

    path.parent.mkdir(parents=True)
    (path.parent / "tokenizer.json").write_text(tokenizer)
    dims = {
        "n_mels": config.mel_bins,
        "n_vocab": config.vocabulary,
        "n_audio_ctx": config.audio_positions,
        "n_audio_state": config.width,
        "n_audio_head": config.heads,
        "n_audio_layer": config.encoder_layers,
        "n_text_ctx": config.text_positions,
        "n_text_state": config.width,
        "n_text_head": config.heads,
        "n_text_layer": config.decoder_layers,
    }
    stored = theirs(tensors, openai.NAMES, openai.OpenAICheckpoint.leaves, config.layers)
    state = {name: torch.from_numpy(tensor.copy()) for name, tensor in stored.items()}
    torch.save({"dims": dims, "model_state_dict": state}, path)
    return path


def write_ctranslate2(
    path: Path, config: WhisperConfig, rules: TokenRules, tensors: Tensors, tokenizer: str,
    int8: bool = False,
) -> Path:  # fmt: skip
    """A directory as CTranslate2's converter leaves it."""
    path.mkdir(parents=True)
    settings = {
        "suppress_ids": list(rules.suppress),
        "suppress_ids_begin": list(rules.suppress_first),
        "alignment_heads": [],
    }
    (path / "config.json").write_text(json.dumps(settings))
    (path / "tokenizer.json").write_text(tokenizer)
    (path / "vocabulary.json").write_text(json.dumps(_vocabulary(tokenizer, config.vocabulary)))
    reader = ctranslate2.CTranslate2Checkpoint
    variables = theirs(tensors, ctranslate2.NAMES, reader.leaves, config.layers)
    if int8:
        variables = _quantised(variables)
    for half in ("encoder", "decoder"):
        variables[f"{half}/num_heads"] = np.asarray(config.heads, np.int16)
    flags = {"activation": 3, "alibi": 0, "pre_norm": 1, "scale_embeddings": 0}
    for name, value in {**flags, "start_from_zero_embedding": 0}.items():
        variables[f"decoder/{name}"] = np.asarray(value, np.int8)
    variables["decoder/alignment_heads"] = np.asarray(1, np.int16)
    variables["decoder/alignment_layer"] = np.asarray(-1, np.int16)
    types = {"float32": 0, "int8": 1, "int16": 2, "int32": 3, "float16": 4, "bfloat16": 5}

    def string(text: str) -> bytes:
        return struct.pack("<H", len(text) + 1) + text.encode() + b"\0"

    with (path / "model.bin").open("wb") as file:
        file.write(struct.pack("<I", 6) + string("WhisperSpec") + struct.pack("<I", 3))
        file.write(struct.pack("<I", len(variables)))
        for name, value in sorted(variables.items()):
            file.write(string(name) + struct.pack("<B", value.ndim))
            file.write(struct.pack(f"<{value.ndim}I", *value.shape))
            file.write(struct.pack("<BI", types[value.dtype.name], value.nbytes) + value.tobytes())
        file.write(struct.pack("<I", 1))
        file.write(string("decoder/projection/weight") + string("decoder/embeddings/weight"))
    return path


def _vocabulary(tokenizer: str, size: int) -> list[str]:
    """Every token in the order of ids; those that the tokenizer doesn't name get a stand-in."""
    names = {id_: name for name, id_ in Tokenizer.from_str(tokenizer).get_vocab().items()}
    return [names.get(id_, f"<unnamed {id_}>") for id_ in range(size)]


def _quantised(variables: Tensors) -> dict[str, np.ndarray]:
    """Matrices as int8 with a factor a row, the rest as it is."""
    out = {}
    for name, value in variables.items():
        if not name.endswith("weight") or "conv" in name:
            out[name] = value
            continue
        scale = 127 / np.abs(value.astype(np.float32)).max(axis=1)
        out[name] = np.rint(value.astype(np.float32) * scale[:, None]).astype(np.int8)
        out[name + "_scale"] = scale.astype(np.float32)
    return out
