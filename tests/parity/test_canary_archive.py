"""Canary's archives, which hold torch tensors."""

from pathlib import Path

import numpy as np
import pytest

from tests.canary import SMALL, stored, tensors, write_nemo, write_transformers
from whisfusion_jax.bundle import Bundle
from whisfusion_jax.conversion.convert import convert

pytestmark = pytest.mark.parity


def test_an_archive_gives_the_same_bits_as_transformers_directory(tmp_path: Path) -> None:
    weights = tensors()
    archive = convert(write_nemo(tmp_path / "x.nemo", SMALL, weights), tmp_path / "archive")
    source = write_transformers(tmp_path / "source", SMALL, weights)
    directory = convert(source, tmp_path / "directory")
    assert archive.config.model == directory.config.model == SMALL
    written = (bundle.path / "tokenizer.json" for bundle in (archive, directory))
    assert len({path.read_text() for path in written}) == 1
    found, expected = stored(archive), stored(directory)
    for name in found.keys() - {"decoder.positions"}:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


def test_an_aggregate_tokenizer_encodes_as_english(tmp_path: Path) -> None:
    path = write_nemo(tmp_path / "x.nemo", SMALL, tensors(), several=True)
    tokenizer = convert(path, tmp_path / "bundle").tokenizer
    assert tokenizer.decode(tokenizer.encode(" red")) == "red"
    assert max(tokenizer.encode("abc")) < tokenizer.end


@pytest.mark.parametrize("seed", range(2))
def test_whole_models_equal_transformers(seed: int, tmp_path: Path) -> None:
    import torch
    from transformers import CanaryForConditionalGeneration

    source = write_transformers(tmp_path / "source", SMALL, tensors(seed=seed))
    theirs = CanaryForConditionalGeneration.from_pretrained(source).eval()
    bundle = convert(source, tmp_path / "bundle")
    random = np.random.default_rng(seed)
    mel = random.normal(size=(1, 160, SMALL.encoder.mel_bins)).astype(np.float32)
    tokens = random.integers(0, 40, (1, 9))
    with torch.no_grad():
        expected = theirs(
            input_features=torch.from_numpy(mel), decoder_input_ids=torch.from_numpy(tokens)
        ).logits.numpy()
    encoder, decoder = bundle.load_encoder(), bundle.load_decoder()
    audio = encoder(mel, np.array([160]))
    order = _order(source, bundle)
    own = np.argsort(order)[tokens]
    cache = decoder.empty_cache(*own.shape)
    hidden, _ = decoder(own, cache, 0, decoder.cross_cache(audio))
    found = np.asarray(decoder.logits(hidden))
    np.testing.assert_allclose(found, expected[..., order], atol=1e-4, rtol=0)


def _order(source: Path, bundle: Bundle) -> np.ndarray:
    """Transformers' token of each of ours."""
    from tokenizers import Tokenizer

    vocabulary = Tokenizer.from_file(str(source / "tokenizer.json")).get_vocab()
    own = {bundle.tokenizer.special(piece): token for piece, token in vocabulary.items()}
    rest = range(len(own), SMALL.vocabulary)
    return np.array([*(own[token] for token in range(len(own))), *rest])
