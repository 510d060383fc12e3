"""A Canary, from transformers' directory to texts by its own decoder, by diffusion, and exactly."""

import dataclasses
import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from rich.progress import Progress
from safetensors.numpy import load_file, save_file

from tests.canary import SMALL, SPECIAL, tensors, write_transformers
from tests.training.tiny import WORDS, spoken, tiny_run
from whisfusion_jax import Transcriber
from whisfusion_jax.audio.windows import pad_to
from whisfusion_jax.bundle import Bundle, named_variables
from whisfusion_jax.config import OptimizerConfig, PhaseConfig, TrainConfig
from whisfusion_jax.conversion.convert import convert
from whisfusion_jax.conversion.memory import add_memory
from whisfusion_jax.data.encoded import encode
from whisfusion_jax.errors import ConversionError, WhisfusionError
from whisfusion_jax.training.loop import export_run, train


def sound(number: int) -> np.ndarray:
    """A word's tone, which comes and goes: one that stays is normalised away."""
    samples = spoken(number)
    samples[: 4000 + 1000 * number] = samples[16_000:] = 0
    return samples


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("canary")
    return write_transformers(folder / "source", SMALL, tensors())


@pytest.fixture(scope="module")
def bundle(source: Path) -> Bundle:
    return convert(source, source.parent / "bundle")


@pytest.fixture(scope="module")
def config(bundle: Bundle) -> TrainConfig:
    """A denoiser that starts from Canary's decoder."""
    run = tiny_run(bundle.path.parent / "run", sound)
    return dataclasses.replace(
        run,
        bundle=str(bundle.path),
        dev=None,
        learned=None,
        commonest=SMALL.vocabulary,
        phases=(PhaseConfig(20, ("high_mask", "ahead")),),
        optimizer=OptimizerConfig(rate=1e-2, warmup=10, average=0.9),
    )


@pytest.fixture(scope="module")
def trained(config: TrainConfig) -> Bundle:
    with Progress(disable=True) as progress:
        return export_run(train(config, progress), config)


def test_text_tokens_come_first(bundle: Bundle) -> None:
    tokenizer = bundle.tokenizer
    assert tokenizer.decode(tokenizer.encode(" red green")) == "red green"
    assert max(tokenizer.encode("the quick brown fox")) < tokenizer.end
    behind = sorted(tokenizer.special(name) for name in SPECIAL)
    assert behind == list(range(tokenizer.end, tokenizer.end + len(SPECIAL)))
    assert tokenizer.end == behind[0]


def test_rows_of_tables_follow_their_tokens(source: Path, bundle: Bundle) -> None:
    theirs = json.loads((source / "tokenizer.json").read_text())["model"]["vocab"]
    stored = load_file(source / "model.safetensors")
    own = bundle.load_decoder()
    for number, (piece, _) in enumerate(theirs):
        row = bundle.tokenizer.special(piece)
        expected = stored["model.decoder.embed_tokens.weight"][number]
        np.testing.assert_array_equal(own.embedding[row], expected)
        assert own.output_bias is not None
        assert own.output_bias[row] == stored["proj_out.bias"][number]


def test_every_other_weight_is_kept(bundle: Bundle) -> None:
    encoder = named_variables(nnx.state(bundle.load_encoder()))
    decoder = named_variables(nnx.state(bundle.load_decoder()))
    expected = tensors()
    for part, variables in {"encoder": encoder, "decoder": decoder}.items():
        for name, variable in variables.items():
            if name in ("embedding", "output_bias", "positions"):
                continue
            np.testing.assert_array_equal(variable[...], expected[f"{part}.{name}"], err_msg=name)


def test_windows_of_any_length_are_heard_alike(bundle: Bundle) -> None:
    encoder, samples = bundle.load_encoder(), sound(3)
    lengths = jnp.full(1, len(samples))
    short, long = (encode(encoder, None, pad_to(samples, s)[None], lengths) for s in (2, 10))
    there = np.asarray(short.bias)[0, 0, 0] == 0
    assert there.sum() == 19
    np.testing.assert_allclose(short.states[0, :19], long.states[0, :19], atol=1e-4)


def test_its_own_decoder_writes(bundle: Bundle) -> None:
    found = Transcriber(bundle, language="en").transcribe(sound(0))
    assert found.language == "en"
    assert found.segments[0].steps > 0


def test_a_language_must_be_named(bundle: Bundle) -> None:
    with pytest.raises(WhisfusionError, match="this model hears no language: name it"):
        Transcriber(bundle).transcribe(sound(0))


def test_self_correction_on_its_encoder_learns(config: TrainConfig) -> None:
    run = dataclasses.replace(
        config,
        work=config.work.parent / "both_ways",
        both_ways=True,
        phases=(PhaseConfig(450, ("high_mask", "uniform"), rounds=2),),
        optimizer=OptimizerConfig(rate=3e-3, warmup=20, average=0.9),
    )
    with Progress(disable=True) as progress:
        learned = export_run(train(run, progress), run)
    found = Transcriber(learned, language="en").transcribe_many([sound(n) for n in range(8)])
    right = [each.text == word for each, word in zip(found, WORDS, strict=True)]
    assert np.mean(right) > 0.6


def test_exact_writes_what_its_own_decoder_writes(bundle: Bundle, trained: Bundle) -> None:
    clips = [sound(number) for number in range(8)]
    greedy, exact = (
        [each.segments[0].tokens for each in transcriber.transcribe_many(clips)]
        for transcriber in (
            Transcriber(bundle, language="en"),
            Transcriber(bundle, decoder="exact", drafts=trained, language="en", stretch=4),
        )
    )
    assert exact == greedy


def test_a_missing_tensor_is_named(source: Path, tmp_path: Path) -> None:
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_text((source / name).read_text())
    stored = load_file(source / "model.safetensors")
    del stored["model.encoder.layers.1.self_attn.bias_u"]
    save_file(stored, tmp_path / "model.safetensors")
    with pytest.raises(ConversionError, match=r"missing: encoder\.layers\.1\.self_attn\.bias_u"):
        convert(tmp_path, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_what_only_whispers_have_is_refused_by_name(bundle: Bundle) -> None:
    with pytest.raises(WhisfusionError, match="no head of this model is known to follow"):
        Transcriber(bundle, language="en", word_times=True)
    with pytest.raises(WhisfusionError, match="is no Whisper's bundle"):
        add_memory(bundle, [sound(0)])
    with pytest.raises(WhisfusionError, match="Canary takes none"):
        Transcriber(bundle, language="en", initial_prompt="Ada")
    assert not Transcriber(
        bundle, language="en"
    ).prompts.takes_earlier  # so no server compiles for them
