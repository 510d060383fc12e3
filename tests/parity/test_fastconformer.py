"""FastConformer and Canary on random weights, held against transformers in float32."""

import dataclasses

import numpy as np
import pytest

from tests.models import test_canary
from tests.models.test_fastconformer import SMALL, encode, with_weights

pytestmark = pytest.mark.parity


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("mel_bins", [80, 128])
def test_states_equal_transformers(bias: bool, mel_bins: int) -> None:
    import torch

    from tests.parity.record import parakeet, parakeet_inputs

    config = dataclasses.replace(SMALL, bias=bias, mel_bins=mel_bins, scaled=bias)
    theirs = parakeet(config)
    ours = with_weights(config, {name: t.numpy() for name, t in theirs.state_dict().items()})
    mel, lengths = parakeet_inputs(config)
    there = torch.arange(mel.shape[1]) < torch.from_numpy(lengths)[:, None]
    with torch.no_grad():
        found = theirs(torch.from_numpy(mel), there)
    states, kept = encode(ours, mel, lengths)
    np.testing.assert_array_equal(kept, found.attention_mask.numpy().astype(bool))
    expected = found.last_hidden_state.numpy()
    np.testing.assert_allclose(states[kept], expected[kept], atol=1e-4, rtol=0)


@pytest.mark.parametrize("layers", [1, 4])
def test_logits_equal_transformers(layers: int) -> None:
    from tests.parity.record import canary, canary_inputs, canary_logits

    config = dataclasses.replace(test_canary.CANARY, decoder_layers=layers, hidden=64)
    theirs = canary(config)
    ours = test_canary.with_weights(
        config, {name: tensor.numpy() for name, tensor in theirs.state_dict().items()}
    )
    tokens, states, there = canary_inputs(config)
    found = test_canary.logits(ours, tokens, test_canary.audio_of(states, there))
    expected = canary_logits(theirs, tokens, states, there)
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=0)
