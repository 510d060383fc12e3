"""A small Parakeet with random weights, in transformers' layout and in NeMo's."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from tests.canary import (
    LETTERS,
    nemo_encoder,
    pieces,
    transformers_encoder,
    with_taps,
    write_archive,
)
from tests.checkpoint_writers import theirs
from tests.support import random_tensors
from whisfusion_jax.config import CtcConfig, FastConformerConfig, ParakeetConfig
from whisfusion_jax.conversion.fastconformer import nemo_rules, transformers_rules
from whisfusion_jax.conversion.rules import Kind, LeafNames, Rule
from whisfusion_jax.conversion.sentencepiece import tokenizer_json

PIECES = 1 + len(LETTERS)
"""The unknown one, and letters."""
SMALL = ParakeetConfig(
    encoder=FastConformerConfig(
        mel_bins=80, width=32, heads=4, layers=2, hidden=64, channels=8, taps=5, bias=False
    ),
    vocabulary=PIECES + 2,
)
HEAD = CtcConfig.of_encoder(SMALL, PIECES)
_LEAVES = LeafNames(separator=".", norm_scale="weight", norm_bias="bias")


def tensors(seed: int = 1) -> dict[str, np.ndarray]:
    """Weights by our names; the blank's column of the head is the last one, as it is there."""
    found = random_tensors(SMALL, seed, ctc=HEAD)
    for name in found:
        if name.endswith("variance"):
            found[name] = np.abs(found[name]) + 0.5
        # So that what the head hears depends on what is said.
        if name.endswith("bias"):
            found[name] = 0.1 * found[name]
    return found


def write_transformers(path: Path, weights: dict[str, np.ndarray]) -> Path:
    """A directory as `ParakeetForCTC.save_pretrained` leaves it."""
    path.mkdir(parents=True)
    settings = {
        "model_type": "parakeet_ctc", "vocab_size": PIECES + 1, "pad_token_id": PIECES,
        "encoder_config": transformers_encoder(SMALL.encoder),
    }  # fmt: skip
    (path / "config.json").write_text(json.dumps(settings))
    tokenizer = json.loads(tokenizer_json([pieces(special=False)]))
    blank = {"id": PIECES, "content": "<pad>", "special": True}
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    tokenizer["added_tokens"].append(blank | flags)
    (path / "tokenizer.json").write_text(json.dumps(tokenizer))
    rules = (*transformers_rules(SMALL.encoder), Rule("ctc.output", "ctc_head", Kind.POINTWISE))
    stored = with_taps(theirs(weights, rules, _LEAVES, SMALL.layers))
    stored["ctc_head.weight"] = stored["ctc_head.weight"][..., None]
    for layer in range(SMALL.encoder.layers):
        stored[f"encoder.layers.{layer}.conv.norm.num_batches_tracked"] = np.zeros((), np.int64)
    save_file(stored, path / "model.safetensors", metadata={"format": "pt"})
    return path


def write_nemo(
    path: Path, weights: dict[str, np.ndarray], head: str | None = "decoder.decoder_layers.0"
) -> Path:
    """An archive as NeMo's `save_to` leaves it; needs torch.

    Args:
        head: its name; with another than the usual, or None, there is a transducer beside it.
    """
    settings: dict[str, Any] = {
        "encoder": nemo_encoder(SMALL.encoder),
        "tokenizer": {"type": "bpe", "model_path": "nemo:0a_tokenizer.model"},
    }
    rules = nemo_rules(SMALL.encoder)
    if head is not None:
        rules = (*rules, Rule("ctc.output", head, Kind.POINTWISE))
    own = {name: each for name, each in weights.items() if head or not name.startswith("ctc.")}
    stored = with_taps(theirs(own, rules, _LEAVES, SMALL.layers))
    stored["preprocessor.featurizer.window"] = np.ones(400, np.float32)
    if head == "decoder.decoder_layers.0":
        stored[f"{head}.weight"] = stored[f"{head}.weight"][..., None]
    else:
        stored["decoder.prediction.embed.weight"] = np.ones((PIECES + 1, 8), np.float32)
        stored["joint.enc.weight"] = np.ones((8, SMALL.width), np.float32)
    return write_archive(path, settings, stored, {"0a_tokenizer.model": pieces(special=False)})
