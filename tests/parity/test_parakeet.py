"""Parakeet against transformers', and NeMo's archives, which hold torch tensors."""

from pathlib import Path

import numpy as np
import pytest

from tests.canary import stored
from tests.parakeet import HEAD, SMALL, tensors, write_nemo, write_transformers
from whisfusion_jax.conversion.convert import convert

pytestmark = pytest.mark.parity


@pytest.mark.parametrize("seed", range(2))
def test_whole_models_equal_transformers(seed: int, tmp_path: Path) -> None:
    import torch
    from transformers import ParakeetForCTC

    source = write_transformers(tmp_path / "source", tensors(seed))
    theirs = ParakeetForCTC.from_pretrained(source).eval()
    bundle = convert(source, tmp_path / "bundle")
    mel = np.random.default_rng(seed).normal(size=(1, 160, SMALL.encoder.mel_bins))
    mel = mel.astype(np.float32)
    with torch.no_grad():
        expected = theirs(input_features=torch.from_numpy(mel)).logits.numpy()
    audio = bundle.load_encoder()(mel, np.array([160]))
    found = np.asarray(bundle.load_ctc()(audio.states))
    np.testing.assert_allclose(np.roll(found, -1, axis=-1), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("head", ["decoder.decoder_layers.0", "ctc_decoder.decoder_layers.0"])
def test_an_archive_gives_the_same_bits_as_transformers_directory(
    head: str, tmp_path: Path
) -> None:
    weights = tensors()
    archive = convert(write_nemo(tmp_path / "x.nemo", weights, head), tmp_path / "archive")
    directory = convert(write_transformers(tmp_path / "source", weights), tmp_path / "directory")
    assert archive.config.model == directory.config.model == SMALL
    assert archive.config.ctc == directory.config.ctc == HEAD
    written = (bundle.path / "tokenizer.json" for bundle in (archive, directory))
    assert len({path.read_text() for path in written}) == 1
    found, expected = stored(archive), stored(directory)
    assert found.keys() == expected.keys()
    for name, array in found.items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)


def test_of_a_transducer_the_encoder_is_taken(tmp_path: Path) -> None:
    path = write_nemo(tmp_path / "x.nemo", tensors(), head=None)
    with pytest.warns(UserWarning, match="the encoder alone"):
        bundle = convert(path, tmp_path / "bundle")
    assert bundle.config.ctc is None
    assert bundle.load_encoder() is not None
