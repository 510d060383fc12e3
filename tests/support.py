"""Small models, tokenizers and signals that tests share."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from whisfusion_jax.bundle import Bundle, named_variables, parameter_shapes, write_bundle
from whisfusion_jax.config import (
    BundleConfig,
    CtcConfig,
    DenoiserConfig,
    ModelConfig,
    TokenRules,
    WhisperConfig,
)
from whisfusion_jax.conversion.rules import LeafNames, Rule, plan
from whisfusion_jax.decoding.denoising import Draws
from whisfusion_jax.models.denoiser import Denoiser, warm_denoiser
from whisfusion_jax.storage import Tensor
from whisfusion_jax.text.shortlist import Shortlist
from whisfusion_jax.training.export import export_bundle

Module = TypeVar("Module", bound=nnx.Module)

SPECIAL = (
    "<|endoftext|>",
    "<|startoftranscript|>",
    "<|en|>",
    "<|de|>",
    "<|translate|>",
    "<|transcribe|>",
    "<|startoflm|>",
    "<|startofprev|>",
    "<|nospeech|>",
    "<|notimestamps|>",
)

TINY = WhisperConfig(
    mel_bins=80, vocabulary=256 + len(SPECIAL), width=32, heads=2, encoder_layers=2,
    decoder_layers=2,
)  # fmt: skip
"""A Whisper of 0.1 M parameters with the byte tokenizer below."""

TINY_RULES = TokenRules(suppress=(3, 40, 41), suppress_first=(220, 256))


def byte_tokenizer() -> str:
    """A tokenizer.json whose tokens are the 256 bytes, then Whisper's special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL))
    return tokenizer.to_str()


def random_tensors(
    config: ModelConfig, seed: int = 0, dtype: type = np.float32, ctc: CtcConfig | None = None
) -> dict:
    """Weights by our names; large enough that texts vary."""
    random = np.random.default_rng(seed)
    tensors = {}
    for name, shape in sorted(parameter_shapes(config, ctc).items()):
        tensor = random.normal(size=shape)
        if name.endswith("kernel"):
            tensor /= np.sqrt(np.prod(shape[:-1]))
        elif name.endswith("scale"):
            tensor = 1 + 0.1 * tensor
        else:
            tensor *= 0.2
        tensors[name] = tensor.astype(dtype)
    return tensors


def random_bundle(
    path: Path, config: WhisperConfig = TINY, seed: int = 0, rules: TokenRules = TINY_RULES
) -> Bundle:
    tensors = {name: Tensor.of(array) for name, array in random_tensors(config, seed).items()}
    return write_bundle(path, BundleConfig(config, rules), byte_tokenizer(), tensors)


def filled(
    model: Module,
    part: str,
    rules: tuple[Rule, ...],
    layers: int,
    tensors: Mapping[str, np.ndarray],
) -> Module:
    """An abstract model with another format's tensors, every one of its own named by the rules."""
    graph, state = nnx.split(model)
    leaves = LeafNames(separator=".", norm_scale="weight", norm_bias="bias")
    sources = plan(rules, leaves, {part: layers}).tensors
    variables = named_variables(state)
    assert {f"{part}.{name}" for name in variables} == sources.keys()
    for name, variable in variables.items():
        at = sources[f"{part}.{name}"]
        value = at.take(tensors[at.name])
        assert value.shape == variable.shape, name
        variable.set_value(jnp.asarray(value))
    return nnx.merge(graph, state)


def with_random_adapters(denoiser: Denoiser) -> Denoiser:
    """A warm denoiser as if it were trained."""
    model = nnx.clone(denoiser)
    for number, (path, variable) in enumerate(nnx.to_flat_state(nnx.state(model))):
        if path[-2:] == ("adapter", "up"):
            draws = jax.random.normal(jax.random.key(number), variable.shape)
            variable.set_value(0.1 * draws)
    return model


def random_denoising_bundle(whisper: Bundle, path: Path) -> Bundle:
    """A bundle with an encoder and a warm denoiser that knows nothing."""
    shortlist = Shortlist.of_texts([], whisper.tokenizer)
    config = DenoiserConfig.of_decoder(whisper.config.model, len(shortlist), rank=4)
    warm = warm_denoiser(whisper.load_decoder(), config, jnp.asarray(shortlist.tokens))
    return export_bundle(whisper, with_random_adapters(warm), config, shortlist, path)


def draws_of(keys: jax.Array) -> Draws:
    """All candidates of utterances with these keys, [batch]."""
    return Draws(keys, jnp.zeros(keys.shape, jnp.int32))


def speechlike(seconds: float, seed: int = 0, rate: int = 16_000) -> np.ndarray:
    """Bursts of harmonics with noise between: [samples] float32 in [-1, 1]."""
    random = np.random.default_rng(seed)
    t = np.arange(int(seconds * rate)) / rate
    pitch = 120 + 40 * np.sin(2 * np.pi * 0.7 * t + seed)
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    voiced = sum(np.sin(k * phase) / k for k in range(1, 12))
    envelope = np.clip(np.sin(2 * np.pi * 1.3 * t + seed), 0, 1)
    wave = 0.2 * envelope * voiced + 0.003 * random.normal(size=t.shape)
    return wave.clip(-1, 1).astype(np.float32)


def manifest(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


SIGNALS = {
    "speechlike": speechlike(7.3),
    "full_window": speechlike(30, seed=1),
    "tone": (0.8 * np.sin(np.arange(48_000) * 0.4)).astype(np.float32),
    "quiet_noise": (1e-4 * np.random.default_rng(2).normal(size=32_000)).astype(np.float32),
    "silence": np.zeros(16_000, np.float32),
}
"""Samples that log-mel is recorded for."""
