"""Record what transformers computes, for the tests that run without torch.

python -m tests.parity.record            (needs the extra `parity`)

Writes tests/fixtures/transformers.npz: log-mel frames of a few signals, and encoder states,
logits and greedy tokens of a small Whisper with the weights of `tests.support.random_tensors`.
"""

import io
import json
import tempfile
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer
from transformers import CanaryConfig as TheirCanaryConfig
from transformers import (
    CanaryDecoderConfig,
    CanaryForConditionalGeneration,
    GenerationMixin,
    ParakeetEncoder,
    ParakeetEncoderConfig,
    ParakeetFeatureExtractor,
    WhisperFeatureExtractor,
)

from tests.conversion.test_sentencepiece import KINDS, TEXTS
from tests.models.test_canary import CANARY
from tests.models.test_fastconformer import SMALL
from tests.support import SIGNALS, TINY, TINY_RULES, random_bundle
from tools.convert_weights.verify import reference
from whisfusion_jax.audio.windows import pad_to
from whisfusion_jax.config import CanaryConfig, FastConformerConfig

Model = TypeVar("Model", bound=torch.nn.Module)

FIXTURE = Path(__file__).parent.parent / "fixtures" / "transformers.npz"
FRAMES = slice(None, None, 37)
STATES = slice(None, None, 50)
PROMPT = [[257, 265], [257, 265]]
NEW_TOKENS = 24


def parakeet(config: FastConformerConfig) -> ParakeetEncoder:
    """Transformers' encoder of random weights."""
    torch.manual_seed(0)
    return _with_random_weights(ParakeetEncoder(_parakeet_config(config)))


def _parakeet_config(config: FastConformerConfig) -> ParakeetEncoderConfig:
    return ParakeetEncoderConfig(
        hidden_size=config.width, num_hidden_layers=config.layers,
        num_attention_heads=config.heads, intermediate_size=config.hidden,
        attention_bias=config.bias, convolution_bias=config.bias,
        conv_kernel_size=config.taps, subsampling_conv_channels=config.channels,
        num_mel_bins=config.mel_bins, scale_input=config.scaled,
    )  # fmt: skip


def _with_random_weights(model: Model) -> Model:
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            positive = name.endswith("running_var")
            random = 0.5 + torch.rand_like(tensor) if positive else 0.3 * torch.randn_like(tensor)
            tensor.copy_(random)
    return model.eval()


def canary(config: CanaryConfig) -> CanaryForConditionalGeneration:
    """Transformers' whole model of random weights."""
    torch.manual_seed(0)
    encoder = _parakeet_config(config.encoder)
    decoder = CanaryDecoderConfig(
        vocab_size=config.vocabulary, hidden_size=config.width, intermediate_size=config.hidden,
        num_hidden_layers=config.decoder_layers, num_attention_heads=config.heads,
        num_key_value_heads=config.heads, head_dim=config.width // config.heads,
        max_position_embeddings=config.text_positions,
    )  # fmt: skip
    whole = TheirCanaryConfig(
        encoder_config=encoder, decoder_config=decoder, vocab_size=config.vocabulary
    )
    return _with_random_weights(CanaryForConditionalGeneration(whole))


def canary_inputs(config: CanaryConfig) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tokens of two texts, states that they attend to, and which of these are no padding."""
    random = np.random.default_rng(2)
    tokens = random.integers(config.vocabulary, size=(2, 12))
    states = random.normal(size=(2, 17, config.width)).astype(np.float32)
    return tokens, states, np.arange(17) < np.array([[17], [9]])


def canary_logits(
    model: CanaryForConditionalGeneration,
    tokens: np.ndarray,
    states: np.ndarray,
    there: np.ndarray,
) -> np.ndarray:
    with torch.no_grad():
        hidden = model.model.decoder(
            input_ids=torch.from_numpy(tokens),
            encoder_hidden_states=torch.from_numpy(states),
            encoder_attention_mask=torch.from_numpy(there).int(),
        ).last_hidden_state
        return model.proj_out(hidden).numpy()


def parakeet_inputs(config: FastConformerConfig) -> tuple[np.ndarray, np.ndarray]:
    """Log-mel frames of two recordings, and how many each has."""
    random = np.random.default_rng(1)
    mel = random.normal(size=(2, 203, config.mel_bins)).astype(np.float32)
    lengths = np.array([203, 130])
    mel[1, 130:] = 0
    return mel, lengths


def sentencepiece_model(kind: str) -> SentencePieceProcessor:
    """A small model of the samples' sentences and this file's own words."""
    written = io.BytesIO()
    lines = [*TEXTS, *Path(__file__).read_text().splitlines()]
    SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=written, model_type=kind, vocab_size=500,
        user_defined_symbols=["<|startoftranscript|>", "<|en|>"], byte_fallback=kind == "bpe",
        hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    return SentencePieceProcessor(model_proto=written.getvalue())


def record() -> None:
    recorded = {}
    for bins in (80, 128):
        extract = WhisperFeatureExtractor(feature_size=bins)
        for name, samples in SIGNALS.items():
            mel = extract(samples, sampling_rate=16_000, return_tensors="np").input_features[0]
            recorded[f"mel_{bins}_{name}"] = mel.T[FRAMES].astype(np.float32)
        nemo = ParakeetFeatureExtractor(feature_size=bins)
        for name, samples in SIGNALS.items():
            if name == "silence":
                continue
            mel = nemo([samples, pad_to(samples, 30)], sampling_rate=16_000).input_features[0]
            recorded[f"nemo_mel_{bins}_{name}"] = np.asarray(mel)[:3000][FRAMES]

    for kind in KINDS:
        pieces = sentencepiece_model(kind)
        found = [
            {"tokens": tokens, "text": pieces.decode(tokens)}
            for tokens in pieces.encode(list(TEXTS))
        ]
        recorded[f"spm_{kind}"] = np.frombuffer(pieces.serialized_model_proto(), np.uint8)
        recorded[f"spm_{kind}_texts"] = np.array(json.dumps(found))

    encoder = parakeet(SMALL)
    mel, lengths = parakeet_inputs(SMALL)
    there = torch.arange(mel.shape[1]) < torch.from_numpy(lengths)[:, None]
    with torch.no_grad():
        states = encoder(torch.from_numpy(mel), there).last_hidden_state.numpy()
    recorded |= {"parakeet_mel": mel, "parakeet_lengths": lengths, "parakeet_states": states}
    whole = canary(CANARY)
    tokens, heard, seen = canary_inputs(CANARY)
    recorded |= {"canary_tokens": tokens, "canary_heard": heard, "canary_there": seen}
    recorded["canary_logits"] = canary_logits(whole, tokens, heard, seen)
    recorded |= {
        f"canary.{name}": tensor.numpy()
        for name, tensor in whole.state_dict().items()
        if not name.startswith("model.encoder")
    }
    recorded |= {
        f"parakeet.{name}": tensor.numpy()
        for name, tensor in encoder.state_dict().items()
        if tensor.is_floating_point()
    }

    with tempfile.TemporaryDirectory() as folder:
        model = reference(random_bundle(Path(folder) / "tiny", TINY))
    random = np.random.default_rng(1)
    mel = random.normal(size=(2, 3000, TINY.mel_bins)).astype(np.float32)
    tokens = random.integers(TINY.vocabulary, size=(2, 20))
    features = torch.from_numpy(mel.swapaxes(1, 2).copy())
    with torch.no_grad():
        states = model.model.encoder(features).last_hidden_state
        logits = model(features, decoder_input_ids=torch.from_numpy(tokens)).logits
        written = GenerationMixin.generate(
            model,
            features,
            decoder_input_ids=torch.tensor(PROMPT),
            decoder_start_token_id=257,
            eos_token_id=256,
            pad_token_id=256,
            max_new_tokens=NEW_TOKENS,
            suppress_tokens=list(TINY_RULES.suppress),
            begin_suppress_tokens=list(TINY_RULES.suppress_first),
        )
    recorded["states"] = states.numpy()[:, STATES]
    recorded["logits"] = logits.numpy()
    recorded["greedy"] = written.numpy()[:, 2:]
    FIXTURE.parent.mkdir(exist_ok=True)
    np.savez_compressed(FIXTURE, **recorded)
    print(f"{FIXTURE}: {FIXTURE.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    record()
