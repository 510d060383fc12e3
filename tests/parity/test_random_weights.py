"""Every size's shape with random weights, held against transformers in float32."""

import dataclasses
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from tests.support import SIGNALS, TINY, TINY_RULES, byte_tokenizer, random_bundle, random_tensors
from tools.convert_weights.verify import reference, verify
from whisfusion_jax.audio.mel import log_mel
from whisfusion_jax.audio.windows import pad_to
from whisfusion_jax.config import WHISPER_SIZES
from whisfusion_jax.conversion.convert import convert

pytestmark = pytest.mark.parity


@pytest.mark.parametrize("name", WHISPER_SIZES)
def test_encoder_and_decoder_equal_transformers(name: str, tmp_path: Path) -> None:
    layers = 4 if name.startswith("tiny") else 1
    config = dataclasses.replace(WHISPER_SIZES[name], encoder_layers=layers, decoder_layers=layers)
    bundle = random_bundle(tmp_path / "bundle", config)
    differences = dict(verify(bundle))
    assert differences.keys() == {"encoder states", "decoder logits"}
    assert max(differences.values()) < 1e-4, differences


@pytest.mark.parametrize("bins", [80, 128])
@pytest.mark.parametrize("name", SIGNALS)
def test_every_frame_of_log_mel_equals_transformers(name: str, bins: int) -> None:
    from transformers import WhisperFeatureExtractor

    extract = WhisperFeatureExtractor(feature_size=bins)
    expected = extract(SIGNALS[name], sampling_rate=16_000, return_tensors="np").input_features[0]
    ours = log_mel(pad_to(SIGNALS[name], 30)[None], bins)[0]
    np.testing.assert_allclose(ours, expected.T, atol=1e-4, rtol=0)


def test_an_openai_file_gives_the_same_bits(tmp_path: Path) -> None:
    import torch
    from flax import nnx

    from tests.checkpoint_writers import write_openai
    from whisfusion_jax.bundle import named_variables

    tensors = random_tensors(TINY, seed=4, dtype=np.float16)
    source = write_openai(tmp_path / "openai" / "tiny.pt", TINY, tensors, byte_tokenizer())
    bundle = convert(source, tmp_path / "bundle")
    for name, variable in named_variables(nnx.state(bundle.load_whisper(jnp.float16))).items():
        np.testing.assert_array_equal(variable[...], tensors[name], err_msg=name)
    assert bundle.config.rules != TINY_RULES  # the file lists none: derived from the tokenizer
    # a pickle that would run code is refused, not run
    torch.save({"dims": print, "model_state_dict": {}}, tmp_path / "openai" / "evil.pt")
    with pytest.raises(Exception, match=r"evil\.pt: not readable as a PyTorch checkpoint"):
        convert(tmp_path / "openai" / "evil.pt", tmp_path / "evil")
    assert not (tmp_path / "evil").exists()


def test_bfloat16_tensors_are_read(tmp_path: Path) -> None:
    import ml_dtypes
    import torch

    from whisfusion_jax.conversion.openai import OpenAICheckpoint

    dims = dict.fromkeys(
        ("n_mels", "n_vocab", "n_audio_ctx", "n_audio_layer", "n_text_ctx", "n_text_layer"), 1
    ) | dict.fromkeys(("n_audio_state", "n_audio_head", "n_text_state", "n_text_head"), 1)
    state = {"x": torch.tensor([1.5, -2.0], dtype=torch.bfloat16)}
    torch.save({"dims": dims, "model_state_dict": state}, tmp_path / "half.pt")
    checkpoint = OpenAICheckpoint(tmp_path / "half.pt")
    assert checkpoint.dtype("x") == ml_dtypes.bfloat16
    assert checkpoint.read("x").tolist() == [1.5, -2.0]


def test_transformers_reads_what_the_tests_write(tmp_path: Path) -> None:
    """The Hugging Face directories of the tests are such as transformers itself accepts."""
    from tests.checkpoint_writers import write_huggingface

    tensors = random_tensors(TINY, dtype=np.float32)
    path = write_huggingface(tmp_path / "hf", TINY, TINY_RULES, tensors, byte_tokenizer())
    bundle = convert(path, tmp_path / "bundle")
    assert max(dict(verify(bundle, path)).values()) < 1e-4
    assert reference(bundle, path).config.d_model == TINY.width
