"""Real weights on the samples, held against transformers token by token."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.accuracy import transformers_tokens
from tests.checkpoint_writers import write_ctranslate2, write_huggingface, write_openai
from tests.conftest import SAMPLES
from tools.convert_weights.verify import reference, verify
from whisfusion_jax.audio.read import read_audio
from whisfusion_jax.bundle import Bundle, named_variables
from whisfusion_jax.conversion.convert import convert
from whisfusion_jax.transcription.transcriber import Transcriber

pytestmark = pytest.mark.parity


@pytest.fixture(scope="module", params=["tiny_en", "base"])
def real(request: pytest.FixtureRequest) -> Bundle:
    return request.getfixturevalue(request.param)


def test_greedy_tokens_equal_transformers(real: Bundle) -> None:
    ours = Transcriber(real, language="en", buckets=(30,))
    model = reference(real)
    for file in sorted(SAMPLES.glob("*.flac")):
        (segment,) = ours.transcribe(file).segments
        assert list(segment.tokens) == transformers_tokens(real, model, read_audio(file)), file


def test_every_route_gives_the_same_bits(real: Bundle, tmp_path: Path) -> None:
    from flax import nnx

    def stored(bundle: Bundle) -> dict[str, np.ndarray]:
        variables = named_variables(nnx.state(bundle.load_whisper(np.float16)))
        return {name: np.asarray(variable[...]) for name, variable in variables.items()}

    tensors = stored(real)
    config, rules = real.config.model, real.config.rules
    text = (real.path / "tokenizer.json").read_text()
    sources = (
        write_ctranslate2(tmp_path / "ct2", config, rules, tensors, text),
        write_huggingface(tmp_path / "hf", config, rules, tensors, text, shards=2),
        write_openai(tmp_path / "openai" / "model.pt", config, tensors, text),
    )
    for source in sources:
        bundle = convert(source, tmp_path / f"bundle-{source.name}")
        assert bundle.config.model == config
        assert bundle.config.rules == rules
        for name, tensor in stored(bundle).items():
            np.testing.assert_array_equal(tensor, tensors[name], err_msg=f"{source}: {name}")


def test_verify_compares_real_weights(real: Bundle) -> None:
    """On noise real weights make states of some hundreds, so the bound is relative to that."""
    differences = dict(verify(real))
    assert max(differences.values()) < 2e-3, differences
