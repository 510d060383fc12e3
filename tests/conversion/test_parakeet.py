"""A Parakeet, from transformers' directory to texts by its own head, and by diffusion on it."""

import dataclasses
import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from rich.progress import Progress
from safetensors.numpy import load_file, save_file

from tests.conversion.test_canary import sound
from tests.parakeet import PIECES, SMALL, tensors, write_transformers
from tests.training.tiny import WORDS, tiny_run
from whisfusion_jax import Transcriber
from whisfusion_jax.audio.arrays import SAMPLE_RATE
from whisfusion_jax.audio.read import read_audio
from whisfusion_jax.audio.windows import pad_to
from whisfusion_jax.bundle import Bundle
from whisfusion_jax.config import DenoiserConfig, OptimizerConfig, PhaseConfig, TrainConfig
from whisfusion_jax.conversion.convert import convert
from whisfusion_jax.data.encoded import encode
from whisfusion_jax.errors import BundleError, ConversionError, WhisfusionError
from whisfusion_jax.hub import CLIPS
from whisfusion_jax.training.loop import export_run, train

SCRATCH = DenoiserConfig(
    vocabulary=SMALL.vocabulary, width=32, heads=2, layers=2, audio_width=SMALL.width, hidden=64,
    warm=False,
)  # fmt: skip


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_transformers(tmp_path_factory.mktemp("parakeet") / "source", tensors())


@pytest.fixture(scope="module")
def bundle(source: Path) -> Bundle:
    return convert(source, source.parent / "bundle")


@pytest.fixture(scope="module")
def config(bundle: Bundle) -> TrainConfig:
    """A denoiser from scratch, which starts from what the head hears."""
    return dataclasses.replace(
        tiny_run(bundle.path.parent / "run", sound),
        bundle=str(bundle.path),
        drafts=str(bundle.path),
        denoiser=SCRATCH,
        dev=None,
        commonest=SMALL.vocabulary,
        phases=(PhaseConfig(300, ("high_mask",), rounds=2, drafted=1),),
        optimizer=OptimizerConfig(rate=1e-2, warmup=10, average=0.9),
    )


@pytest.fixture(scope="module")
def trained(config: TrainConfig) -> Bundle:
    with Progress(disable=True) as progress:
        return export_run(train(config, progress), config)


def test_the_end_token_stands_behind_the_pieces(bundle: Bundle) -> None:
    tokenizer = bundle.tokenizer
    assert tokenizer.decode(tokenizer.encode(" red green")) == "red green"
    assert (tokenizer.end, tokenizer.start) == (PIECES, PIECES + 1)
    assert tokenizer.prompt(None) == [tokenizer.start]


def test_its_own_head_writes_without_a_decoder(bundle: Bundle) -> None:
    """Likeliest pieces by the weights as they lie there, repetitions and blanks gone."""
    samples, seconds = np.concatenate([sound(number) for number in (1, 6, 3)]), 5
    own = tensors()
    audio = encode(
        bundle.load_encoder(), None, pad_to(samples, seconds)[None], jnp.array([len(samples)])
    )
    states = np.asarray(audio.states[0])[np.asarray(audio.there())[0]]
    scores = states @ own["ctc.output.kernel"] + own["ctc.output.bias"]
    moments = scores.argmax(1)
    new = np.append(True, moments[1:] != moments[:-1]) & (moments != PIECES)
    expected = bundle.tokenizer.decode(moments[new].tolist())
    found = Transcriber(bundle).transcribe(samples)
    assert len(set(moments[new])) > 2
    assert found.text == expected.strip()
    assert found.segments[0].steps == 0


def test_a_batch_is_as_each_alone(bundle: Bundle) -> None:
    sounds = [sound(number) for number in range(3)]
    alone = [Transcriber(bundle, batch_size=1).transcribe(each).text for each in sounds]
    together = Transcriber(bundle, batch_size=4).transcribe_many(sounds)
    assert [each.text for each in together] == alone


def test_long_recordings_are_written_in_pieces(bundle: Bundle) -> None:
    clip = read_audio(min(CLIPS.glob("*.wav")))
    found = Transcriber(bundle).transcribe(np.tile(clip, 1 + 40 * SAMPLE_RATE // len(clip)))
    assert found.seconds > 40
    assert len(found.segments) > 1
    assert found.text


def test_a_denoiser_learns_on_it(trained: Bundle) -> None:
    by_diffusion = Transcriber(trained)
    found = [by_diffusion.transcribe(sound(number)).text for number in range(len(WORDS))]
    assert sum(own == word for own, word in zip(found, WORDS, strict=True)) >= 6


@pytest.mark.parametrize("decoder", ["ar", "exact"])
def test_what_it_has_not_is_said(decoder: str, bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="has no pre-trained decoder"):
        Transcriber(bundle, decoder=decoder)  # type: ignore[arg-type]


def test_word_times_need_a_decoder(bundle: Bundle) -> None:
    with pytest.raises(WhisfusionError, match="ctc is without"):
        Transcriber(bundle, word_times=True)


def test_a_warm_start_needs_a_decoder(config: TrainConfig) -> None:
    with pytest.raises(WhisfusionError, match="no decoder to start from"), Progress() as progress:
        train(dataclasses.replace(config, denoiser=None, work=config.work / "other"), progress)


def test_missing_tensors_are_named(source: Path, tmp_path: Path) -> None:
    path = write_transformers(tmp_path / "source", tensors())
    stored = load_file(path / "model.safetensors")
    del stored["ctc_head.bias"]
    save_file(stored, path / "model.safetensors")
    with pytest.raises(ConversionError, match=r"missing: ctc_head\.bias"):
        convert(path, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_a_tokenizer_of_another_size_is_refused(tmp_path: Path) -> None:
    path = write_transformers(tmp_path / "source", tensors())
    settings = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(settings | {"vocab_size": PIECES + 9}))
    with pytest.raises(ConversionError, match=f"{PIECES} pieces, not the model's {PIECES + 8}"):
        convert(path, tmp_path / "bundle")
