"""How NeMo and transformers name a FastConformer's tensors, and its sizes."""

from collections.abc import Mapping
from typing import Any

from whisfusion_jax.config import FastConformerConfig
from whisfusion_jax.conversion.rules import Kind, Rule

# fmt: off
_NEMO = {
    "subsampling": "encoder.pre_encode.conv",
    "subsampling.out": "encoder.pre_encode.out",
    "query": "linear_q", "key": "linear_k", "value": "linear_v", "out": "linear_out",
    "distance": "linear_pos", "content_bias": "pos_bias_u", "distance_bias": "pos_bias_v",
    "norm": "batch_norm",
}
_TRANSFORMERS = {
    "subsampling": "encoder.subsampling.layers",
    "subsampling.out": "encoder.subsampling.linear",
    "query": "q_proj", "key": "k_proj", "value": "v_proj", "out": "o_proj",
    "distance": "relative_k_proj", "content_bias": "bias_u", "distance_bias": "bias_v",
    "norm": "norm",
}


def nemo_rules(config: FastConformerConfig) -> tuple[Rule, ...]:
    """Names as in NeMo's `ConformerEncoder`."""
    return _rules(config, _NEMO)


def transformers_rules(config: FastConformerConfig) -> tuple[Rule, ...]:
    """Names as in transformers' `ParakeetEncoder`."""
    return _rules(config, _TRANSFORMERS)


def transformers_config(settings: Mapping[str, Any]) -> FastConformerConfig:
    """The sizes of transformers' encoder.

    Raises:
        KeyError: one is missing.
    """
    return FastConformerConfig(
        mel_bins=settings["num_mel_bins"],
        width=settings["hidden_size"],
        heads=settings["num_attention_heads"],
        layers=settings["num_hidden_layers"],
        hidden=settings["intermediate_size"],
        channels=settings["subsampling_conv_channels"],
        taps=settings["conv_kernel_size"],
        bias=settings["attention_bias"],
        scaled=settings["scale_input"],
    )


def _rules(config: FastConformerConfig, at: dict[str, str]) -> tuple[Rule, ...]:
    linear, pointwise, convolution = (
        (Kind.LINEAR, Kind.POINTWISE, Kind.CONVOLUTION)
        if config.bias
        else (Kind.LINEAR_NO_BIAS, Kind.POINTWISE_NO_BIAS, Kind.CONVOLUTION_NO_BIAS)
    )
    ours, theirs = "encoder.blocks.*", "encoder.layers.*"
    joined = at["subsampling"]
    return (
        Rule("encoder.subsampling.first",        f"{joined}.0",                              Kind.PLANE),
        Rule("encoder.subsampling.depthwise.0",  f"{joined}.2",                              Kind.PLANE),
        Rule("encoder.subsampling.pointwise.0",  f"{joined}.3",                              Kind.PLANE),
        Rule("encoder.subsampling.depthwise.1",  f"{joined}.5",                              Kind.PLANE),
        Rule("encoder.subsampling.pointwise.1",  f"{joined}.6",                              Kind.PLANE),
        Rule("encoder.subsampling.out",          at["subsampling.out"],                      Kind.LINEAR),
        Rule(f"{ours}.first_norm",               f"{theirs}.norm_feed_forward1",             Kind.NORM),
        Rule(f"{ours}.first.up",                 f"{theirs}.feed_forward1.linear1",          linear),
        Rule(f"{ours}.first.down",               f"{theirs}.feed_forward1.linear2",          linear),
        Rule(f"{ours}.attention_norm",           f"{theirs}.norm_self_att",                  Kind.NORM),
        *(Rule(f"{ours}.attention.{name}",       f"{theirs}.self_attn.{at[name]}",           linear)
          for name in ("query", "key", "value", "out")),
        Rule(f"{ours}.attention.distance",       f"{theirs}.self_attn.{at['distance']}",     Kind.LINEAR_NO_BIAS),
        *(Rule(f"{ours}.attention.{name}",       f"{theirs}.self_attn.{at[name]}",           Kind.TABLE)
          for name in ("content_bias", "distance_bias")),
        Rule(f"{ours}.near_norm",                f"{theirs}.norm_conv",                      Kind.NORM),
        Rule(f"{ours}.near.gated",               f"{theirs}.conv.pointwise_conv1",           pointwise),
        Rule(f"{ours}.near.depthwise",           f"{theirs}.conv.depthwise_conv",            convolution),
        Rule(f"{ours}.near.norm",                f"{theirs}.conv.{at['norm']}",              Kind.BATCH_NORM),
        Rule(f"{ours}.near.out",                 f"{theirs}.conv.pointwise_conv2",           pointwise),
        Rule(f"{ours}.second_norm",              f"{theirs}.norm_feed_forward2",             Kind.NORM),
        Rule(f"{ours}.second.up",                f"{theirs}.feed_forward2.linear1",          linear),
        Rule(f"{ours}.second.down",              f"{theirs}.feed_forward2.linear2",          linear),
        Rule(f"{ours}.norm",                     f"{theirs}.norm_out",                       Kind.NORM),
    )
# fmt: on
