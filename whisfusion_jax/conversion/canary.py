"""How NeMo and transformers name the tensors of Canary's decoder."""

import numpy as np

from whisfusion_jax.conversion.rules import Kind, Rule

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
    Rule("decoder.embedding",                      "model.decoder.embed_tokens.weight",                    Kind.TABLE),
    Rule("decoder.embedding_norm",                 "model.decoder.embedding_layernorm",                    Kind.NORM),
    Rule("decoder.blocks.*.attention_norm",        "model.decoder.layers.*.input_layernorm",               Kind.NORM),
    Rule("decoder.blocks.*.attention.query",       "model.decoder.layers.*.self_attn.q_proj",              Kind.LINEAR),
    Rule("decoder.blocks.*.attention.key",         "model.decoder.layers.*.self_attn.k_proj",              Kind.LINEAR_NO_BIAS),
    Rule("decoder.blocks.*.attention.value",       "model.decoder.layers.*.self_attn.v_proj",              Kind.LINEAR),
    Rule("decoder.blocks.*.attention.out",         "model.decoder.layers.*.self_attn.o_proj",              Kind.LINEAR),
    Rule("decoder.blocks.*.cross_norm",            "model.decoder.layers.*.post_attention_layernorm",      Kind.NORM),
    Rule("decoder.blocks.*.cross_attention.query", "model.decoder.layers.*.encoder_attn.q_proj",           Kind.LINEAR),
    Rule("decoder.blocks.*.cross_attention.key",   "model.decoder.layers.*.encoder_attn.k_proj",           Kind.LINEAR_NO_BIAS),
    Rule("decoder.blocks.*.cross_attention.value", "model.decoder.layers.*.encoder_attn.v_proj",           Kind.LINEAR),
    Rule("decoder.blocks.*.cross_attention.out",   "model.decoder.layers.*.encoder_attn.o_proj",           Kind.LINEAR),
    Rule("decoder.blocks.*.mlp_norm",              "model.decoder.layers.*.final_layernorm",               Kind.NORM),
    Rule("decoder.blocks.*.mlp.up",                "model.decoder.layers.*.mlp.fc1",                       Kind.LINEAR),
    Rule("decoder.blocks.*.mlp.down",              "model.decoder.layers.*.mlp.fc2",                       Kind.LINEAR),
    Rule("decoder.norm",                           "model.decoder.norm",                                   Kind.NORM),
    Rule("decoder.output_bias",                    "proj_out.bias",                                        Kind.TABLE),
)
"""As in transformers' `CanaryForConditionalGeneration`, whose positions are computed."""
# fmt: on


def sinusoids(positions: int, width: int) -> np.ndarray:
    """The positions that transformers computes: [positions, width] float32, sines, then cosines."""
    speed = 10_000.0 ** (-2 * np.arange(width // 2) / width)
    angles = np.arange(positions)[:, None] * speed
    table = np.concatenate([np.sin(angles), np.cos(angles)], axis=1) / width**0.5
    return table.astype(np.float32)
