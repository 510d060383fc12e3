"""A bundle's outputs against transformers', on the same weights in float32."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from whisfusion_jax.bundle import Bundle, named_variables
from whisfusion_jax.config import WhisperConfig
from whisfusion_jax.conversion.huggingface import NAMES, HuggingFaceCheckpoint
from whisfusion_jax.conversion.rules import plan
from whisfusion_jax.errors import ConversionError


def verify(bundle: Bundle, source: Path | None = None) -> Iterator[tuple[str, float]]:
    """Run noise through both encoders and random tokens through both decoders.

    A Hugging Face source is loaded by transformers itself; for the other formats the bundle's
    weights are put into transformers' model, which still checks the two programs on real weights.

    Yields:
        (what, largest absolute difference).

    Raises:
        ConversionError: transformers or torch is not installed.
    """
    try:
        import torch
    except ImportError:
        raise ConversionError("--verify needs whisfusion_jax[parity]") from None

    whisper, config = bundle.load_whisper(), bundle.whisper
    theirs = reference(bundle, source)
    random = np.random.default_rng(0)
    mel = random.normal(size=(1, 2 * config.audio_positions, config.mel_bins)).astype(np.float32)
    tokens = random.integers(config.vocabulary, size=(1, 32))

    audio = whisper.encoder(jnp.asarray(mel))
    with torch.no_grad():
        expected = theirs.model.encoder(torch.from_numpy(mel.swapaxes(1, 2))).last_hidden_state
        logits = theirs(
            encoder_outputs=(torch.from_numpy(np.array(audio.states)),),
            decoder_input_ids=torch.from_numpy(tokens),
        ).logits
    yield "encoder states", _largest(audio.states, expected)

    decoder = whisper.decoder
    cache = decoder.empty_cache(1, tokens.shape[1])
    hidden, _ = decoder(jnp.asarray(tokens), cache, 0, decoder.cross_cache(audio))
    yield "decoder logits", _largest(decoder.logits(hidden), logits)


def reference(bundle: Bundle, source: Path | None = None) -> Any:
    """transformers' model in float32, from a Hugging Face directory or with a bundle's weights."""
    import torch
    from transformers import WhisperForConditionalGeneration

    if source is not None and list(source.glob("model*.safetensors*")):
        return WhisperForConditionalGeneration.from_pretrained(source, dtype=torch.float32).eval()
    model = WhisperForConditionalGeneration(reference_config(bundle.whisper)).eval()
    ours = named_variables(nnx.state(bundle.load_whisper()))
    weights = {}
    sources = plan(NAMES, HuggingFaceCheckpoint.leaves, bundle.config.model.layers)
    for name, at in sources.tensors.items():
        tensor = np.asarray(ours[name][...])
        back = tensor.transpose(np.argsort(at.axes)) if at.axes else tensor
        weights["model." + at.name] = torch.from_numpy(np.array(back))
    weights["proj_out.weight"] = weights["model.decoder.embed_tokens.weight"]
    model.load_state_dict(weights)
    return model


def reference_config(config: WhisperConfig) -> Any:
    """The same sizes as a transformers config."""
    from transformers import WhisperConfig as TheirConfig

    return TheirConfig(
        vocab_size=config.vocabulary,
        num_mel_bins=config.mel_bins,
        d_model=config.width,
        encoder_layers=config.encoder_layers,
        decoder_layers=config.decoder_layers,
        encoder_attention_heads=config.heads,
        decoder_attention_heads=config.heads,
        encoder_ffn_dim=4 * config.width,
        decoder_ffn_dim=4 * config.width,
        max_source_positions=config.audio_positions,
        max_target_positions=config.text_positions,
        pad_token_id=0,
        bos_token_id=0,
        eos_token_id=0,
        decoder_start_token_id=0,
        suppress_tokens=None,
        begin_suppress_tokens=None,
    )


def _largest(ours: Any, theirs: Any) -> float:
    return float(np.abs(np.asarray(ours) - theirs.numpy()).max())
