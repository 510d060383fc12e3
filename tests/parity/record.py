"""Record what transformers computes, for the tests that run without torch.

python -m tests.parity.record            (needs the extra `parity`)

Writes tests/fixtures/transformers.npz: log-mel frames of a few signals, and encoder states,
logits and greedy tokens of a small Whisper with the weights of `tests.support.random_tensors`.
"""

import tempfile
from pathlib import Path

import numpy as np
import torch
from transformers import GenerationMixin, WhisperFeatureExtractor

from tests.support import SIGNALS, TINY, TINY_RULES, random_bundle
from tools.convert_weights.verify import reference

FIXTURE = Path(__file__).parent.parent / "fixtures" / "transformers.npz"
FRAMES = slice(None, None, 37)
STATES = slice(None, None, 50)
PROMPT = [[257, 265], [257, 265]]
NEW_TOKENS = 24


def record() -> None:
    recorded = {}
    for bins in (80, 128):
        extract = WhisperFeatureExtractor(feature_size=bins)
        for name, samples in SIGNALS.items():
            mel = extract(samples, sampling_rate=16_000, return_tensors="np").input_features[0]
            recorded[f"mel_{bins}_{name}"] = mel.T[FRAMES].astype(np.float32)

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
