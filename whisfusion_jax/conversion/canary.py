"""Canary, as NeMo and transformers store it: names, sizes, tokens.

Our vocabulary has text tokens first, then the end token, then other special ones, as Whisper's has;
Canary's has the special ones in front. So the rows of its tables are put in another order.
"""

import dataclasses
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from whisfusion_jax.config import CanaryConfig, TokenRules
from whisfusion_jax.conversion.checkpoint import Checkpoint, read_json
from whisfusion_jax.conversion.fastconformer import (
    nemo_rules,
    transformers_config,
    transformers_rules,
)
from whisfusion_jax.conversion.huggingface import Safetensors
from whisfusion_jax.conversion.nemo import NemoArchive, encoder_config
from whisfusion_jax.conversion.rules import Kind, LeafNames, Rule
from whisfusion_jax.conversion.sentencepiece import tokenizer_json
from whisfusion_jax.conversion.text_first import text_first
from whisfusion_jax.errors import ConversionError

# fmt: off
NEMO = (
    Rule("decoder.embedding",                      "transf_decoder._embedding.token_embedding.weight",                    Kind.TABLE),
    Rule("decoder.positions",                      "transf_decoder._embedding.position_embedding.pos_enc",                Kind.TABLE),
    Rule("decoder.embedding_norm",                 "transf_decoder._embedding.layer_norm",                                Kind.NORM),
    Rule("decoder.blocks.*.attention_norm",        "transf_decoder._decoder.layers.*.layer_norm_1",                       Kind.NORM),
    Rule("decoder.blocks.*.attention.query",       "transf_decoder._decoder.layers.*.first_sub_layer.query_net",          Kind.LINEAR),
    Rule("decoder.blocks.*.attention.key",         "transf_decoder._decoder.layers.*.first_sub_layer.key_net",            Kind.LINEAR_NO_BIAS),
    Rule("decoder.blocks.*.attention.value",       "transf_decoder._decoder.layers.*.first_sub_layer.value_net",          Kind.LINEAR),
    Rule("decoder.blocks.*.attention.out",         "transf_decoder._decoder.layers.*.first_sub_layer.out_projection",     Kind.LINEAR),
    Rule("decoder.blocks.*.cross_norm",            "transf_decoder._decoder.layers.*.layer_norm_2",                       Kind.NORM),
    Rule("decoder.blocks.*.cross_attention.query", "transf_decoder._decoder.layers.*.second_sub_layer.query_net",         Kind.LINEAR),
    Rule("decoder.blocks.*.cross_attention.key",   "transf_decoder._decoder.layers.*.second_sub_layer.key_net",           Kind.LINEAR_NO_BIAS),
    Rule("decoder.blocks.*.cross_attention.value", "transf_decoder._decoder.layers.*.second_sub_layer.value_net",         Kind.LINEAR),
    Rule("decoder.blocks.*.cross_attention.out",   "transf_decoder._decoder.layers.*.second_sub_layer.out_projection",    Kind.LINEAR),
    Rule("decoder.blocks.*.mlp_norm",              "transf_decoder._decoder.layers.*.layer_norm_3",                       Kind.NORM),
    Rule("decoder.blocks.*.mlp.up",                "transf_decoder._decoder.layers.*.third_sub_layer.dense_in",           Kind.LINEAR),
    Rule("decoder.blocks.*.mlp.down",              "transf_decoder._decoder.layers.*.third_sub_layer.dense_out",          Kind.LINEAR),
    Rule("decoder.norm",                           "transf_decoder._decoder.final_layer_norm",                            Kind.NORM),
    Rule("decoder.output_bias",                    "log_softmax.mlp.layer0.bias",                                         Kind.TABLE),
)
"""As in NeMo's `EncDecMultiTaskModel`. Its keys have a bias, which adds the same to each of a query's
scores and so changes no softmax: it is left out."""

TRANSFORMERS = (
    Rule("decoder.embedding",                      "decoder.embed_tokens.weight",                          Kind.TABLE),
    Rule("decoder.embedding_norm",                 "decoder.embedding_layernorm",                          Kind.NORM),
    Rule("decoder.blocks.*.attention_norm",        "decoder.layers.*.input_layernorm",                     Kind.NORM),
    Rule("decoder.blocks.*.attention.query",       "decoder.layers.*.self_attn.q_proj",                    Kind.LINEAR),
    Rule("decoder.blocks.*.attention.key",         "decoder.layers.*.self_attn.k_proj",                    Kind.LINEAR_NO_BIAS),
    Rule("decoder.blocks.*.attention.value",       "decoder.layers.*.self_attn.v_proj",                    Kind.LINEAR),
    Rule("decoder.blocks.*.attention.out",         "decoder.layers.*.self_attn.o_proj",                    Kind.LINEAR),
    Rule("decoder.blocks.*.cross_norm",            "decoder.layers.*.post_attention_layernorm",            Kind.NORM),
    Rule("decoder.blocks.*.cross_attention.query", "decoder.layers.*.encoder_attn.q_proj",                 Kind.LINEAR),
    Rule("decoder.blocks.*.cross_attention.key",   "decoder.layers.*.encoder_attn.k_proj",                 Kind.LINEAR_NO_BIAS),
    Rule("decoder.blocks.*.cross_attention.value", "decoder.layers.*.encoder_attn.v_proj",                 Kind.LINEAR),
    Rule("decoder.blocks.*.cross_attention.out",   "decoder.layers.*.encoder_attn.o_proj",                 Kind.LINEAR),
    Rule("decoder.blocks.*.mlp_norm",              "decoder.layers.*.final_layernorm",                     Kind.NORM),
    Rule("decoder.blocks.*.mlp.up",                "decoder.layers.*.mlp.fc1",                             Kind.LINEAR),
    Rule("decoder.blocks.*.mlp.down",              "decoder.layers.*.mlp.fc2",                             Kind.LINEAR),
    Rule("decoder.norm",                           "decoder.norm",                                         Kind.NORM),
    Rule("decoder.output_bias",                    "proj_out.bias",                                        Kind.TABLE),
)
"""As in transformers' `CanaryForConditionalGeneration`, whose positions are computed."""
# fmt: on

_PROJECTION = Rule("encoder.project", "encoder_decoder_proj", Kind.LINEAR)
_POSITIONS = Rule("decoder.positions", "positions", Kind.TABLE)
_COUNTED = ("decoder.embedding", "decoder.output_bias")
"""Ours that have a row for each token."""


class CanaryCheckpoint(Checkpoint):
    """What both formats share."""

    config: CanaryConfig
    rules = TokenRules()
    alignment_heads = ()
    unused: str
    """A pattern of tensors that change nothing here."""
    _order: np.ndarray | None = None

    def _prepare(self) -> None:
        pattern = re.compile(self.unused)
        self.ignored = frozenset(name for name in self.shapes if pattern.fullmatch(name))
        self._rows = {rule.theirs for rule in self.names if rule.ours in _COUNTED}

    def _reordered(self, tokenizer: str) -> str:
        text, self._order = text_first(tokenizer, self.config.vocabulary, str(self.path))
        return text

    def _in_order(self, name: str, tensor: np.ndarray) -> np.ndarray:
        return tensor[self._order] if name in self._rows else tensor


class NemoCanary(CanaryCheckpoint):
    """A `.nemo` archive of a Canary."""

    leaves = LeafNames(separator=".", norm_scale="weight", norm_bias="bias")
    unused = (
        r"preprocessor\..*|log_softmax\.mlp\.layer0\.weight|.*\.key_net\.bias"
        r"|.*\.num_batches_tracked"
    )

    def __init__(self, archive: NemoArchive) -> None:
        """Read the settings of an opened archive, which is closed with this.

        Raises:
            ConversionError: it is of another kind of model.
        """
        self.path, self._archive = archive.path, archive
        self.config, passed = nemo_config(archive.settings, self.path)
        if passed:
            warnings.warn(f"{self.path}: passed over: {', '.join(passed)}", stacklevel=2)
        self.shapes = self._archive.shapes
        self.names = (*nemo_rules(self.config.encoder), *NEMO)
        if self.config.encoder.projected:
            self.names = (*self.names, _PROJECTION)
        self._prepare()

    def close(self) -> None:
        self._archive.close()

    def tokenizer(self, beside: Path) -> str:
        models, main = self._archive.tokenizers()
        return self._reordered(tokenizer_json(models, main, str(self.path)))

    def dtype(self, name: str) -> np.dtype:
        return self._archive.dtype(name)

    def read(self, name: str) -> np.ndarray:
        return self._in_order(name, self._archive.read(name))


class TransformersCanary(Safetensors, CanaryCheckpoint):
    """The directory of transformers' `CanaryForConditionalGeneration`."""

    unused = r"proj_out\.weight|decoder\..*\.k_proj\.bias|.*\.num_batches_tracked"

    def __init__(self, path: Path) -> None:
        """Read the settings and the tensors' names and shapes.

        Raises:
            ConversionError: a file is missing or damaged.
        """
        self.config = _transformers_config(read_json(path / "config.json"), path)
        self.names = (*transformers_rules(self.config.encoder), *TRANSFORMERS, _POSITIONS)
        super().__init__(path)
        self._table = sinusoids(self.config.text_positions, self.config.width)
        self.shapes = {**self.shapes, _POSITIONS.theirs: self._table.shape}
        self._prepare()

    def tokenizer(self, beside: Path) -> str:
        return self._reordered(super().tokenizer(beside))

    def dtype(self, name: str) -> np.dtype:
        return self._table.dtype if name == _POSITIONS.theirs else super().dtype(name)

    def read(self, name: str) -> np.ndarray:
        if name == _POSITIONS.theirs:
            return self._table
        return self._in_order(name, super().read(name))


def nemo_config(settings: Mapping[str, Any], path: Path) -> tuple[CanaryConfig, list[str]]:
    """The sizes of an archive's model, and its encoder's settings that were passed over by name.

    Raises:
        ConversionError: a size is missing, or the model is of another kind.
    """
    encoder, passed = encoder_config(settings, path)
    decoder = settings.get("transf_decoder", {}).get("config_dict")
    if not isinstance(decoder, Mapping):
        raise ConversionError(f"{path}: no Canary, its settings name no transf_decoder")
    if settings.get("transf_encoder", {}).get("num_layers", 0):
        raise ConversionError(f"{path}: transf_encoder has layers, which Canary's hasn't")
    known = {"pre_ln": True, "pre_ln_final_layer_norm": True, "hidden_act": "relu"}
    for key, wanted in known.items():
        if decoder.get(key, wanted) != wanted:
            raise ConversionError(f"{path}: transf_decoder's {key} is {decoder[key]}, not {wanted}")
    sizes = {
        "width": "hidden_size", "heads": "num_attention_heads", "hidden": "inner_size",
        "decoder_layers": "num_layers", "text_positions": "max_sequence_length",
    }  # fmt: skip
    if missing := [name for name in sizes.values() if name not in decoder]:
        raise ConversionError(f"{path}: transf_decoder's settings lack {', '.join(missing)}")
    vocabulary = settings.get("head", {}).get("num_classes")
    if not isinstance(vocabulary, int):
        raise ConversionError(f"{path}: its settings name no head.num_classes")
    own = {ours: decoder[theirs] for ours, theirs in sizes.items()}
    if own["width"] != encoder.width:
        encoder = dataclasses.replace(encoder, projected=own["width"])
    return CanaryConfig(encoder=encoder, vocabulary=vocabulary, **own), passed


def _transformers_config(settings: Mapping[str, Any], path: Path) -> CanaryConfig:
    try:
        decoder = settings["decoder_config"]
        return CanaryConfig(
            encoder=transformers_config(settings["encoder_config"]),
            vocabulary=decoder["vocab_size"],
            width=decoder["hidden_size"],
            heads=decoder["num_attention_heads"],
            hidden=decoder["intermediate_size"],
            decoder_layers=decoder["num_hidden_layers"],
            text_positions=decoder["max_position_embeddings"],
        )
    except KeyError as missing:
        raise ConversionError(f"{path}/config.json lacks {missing}") from None


def sinusoids(positions: int, width: int) -> np.ndarray:
    """The positions that transformers computes: [positions, width] float32, sines, then cosines."""
    speed = 10_000.0 ** (-2 * np.arange(width // 2) / width)
    angles = np.arange(positions)[:, None] * speed
    table = np.concatenate([np.sin(angles), np.cos(angles)], axis=1) / width**0.5
    return table.astype(np.float32)
