"""A tiny run: learn eight utterances by heart, stop, go on, transcribe."""

import dataclasses
import json
from pathlib import Path

import pytest
from rich.progress import Progress

from tests.support import TINY
from tests.training.tiny import WORDS, spoken, tiny_run
from whisfusion_jax import Transcriber
from whisfusion_jax.bundle import Bundle
from whisfusion_jax.config import DenoiserConfig, OptimizerConfig, PhaseConfig, TrainConfig
from whisfusion_jax.decoding.unmasking import (
    PositionBiased,
    RandomRemask,
    Threshold,
    TopN,
    UnmaskingRule,
)
from whisfusion_jax.errors import BundleError, WhisfusionError
from whisfusion_jax.evaluation.dev import dev_score
from whisfusion_jax.training.export import export_bundle
from whisfusion_jax.training.loop import Trained, train


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    return tiny_run(tmp_path_factory.mktemp("run"))


def run(config: TrainConfig) -> Trained:
    with Progress(disable=True) as progress:
        return train(config, progress, dev_score(config.dev))


def logged(work: Path, name: str) -> dict[int, float]:
    """A figure's values by step."""
    lines = map(json.loads, (work / "log.jsonl").read_text().splitlines())
    return {line["step"]: line[name] for line in lines if name in line}


@pytest.fixture(scope="module")
def trained(config: TrainConfig) -> Trained:
    return run(config)


@pytest.fixture(scope="module")
def exported(trained: Trained, config: TrainConfig) -> Bundle:
    return export_bundle(
        trained.bundle, trained.model, trained.config, trained.shortlist, config.work / "bundle"
    )


def test_eight_utterances_are_learned_by_heart(exported: Bundle) -> None:
    transcriber = Transcriber(Bundle.open(exported.path))
    clips = [spoken(number) for number in range(8)]
    assert [found.text for found in transcriber.transcribe_many(clips)] == WORDS


def test_the_log_says_what_was_learned_from(trained: Trained, config: TrainConfig) -> None:
    counts = json.loads((config.work / "speech.json").read_text())
    assert counts["sets"] == {str(config.data[0]): 8}
    assert counts["languages"][""]["examples"] == 8


def test_a_trained_bundle_holds_what_diffusion_needs(exported: Bundle) -> None:
    assert not exported.has_decoder
    with pytest.raises(BundleError, match="no pre-trained decoder"):
        Transcriber(exported, decoder="ar")


@pytest.mark.parametrize("rule", [TopN(3), RandomRemask(), PositionBiased(), Threshold(steps=3)])
def test_any_rule_and_candidates_transcribe(exported: Bundle, rule: UnmaskingRule) -> None:
    transcriber = Transcriber(exported, rule=rule, candidates=3, temperature=0.3)
    (segment,) = transcriber.transcribe(spoken(2)).segments
    assert segment.text == WORDS[2]
    assert len(segment.tokens) == len(segment.confidences) == len(segment.fixed_at)
    assert [word.text for word in segment.words] == [WORDS[2]]
    assert max(segment.fixed_at) <= segment.steps <= rule.steps


def test_a_stopped_run_goes_on_to_the_same_end(
    trained: Trained, config: TrainConfig, tmp_path: Path
) -> None:
    losses = logged(config.work, "loss")
    assert list(losses) == list(range(25, 201, 25))
    work = tmp_path / "work"
    short = dataclasses.replace(config, work=work, dev=None, stop_at=125)
    run(short)
    run(dataclasses.replace(short, stop_at=None))
    assert logged(work, "loss") == losses


def test_a_run_goes_on_from_a_bundle_by_stretches(
    trained: Trained, exported: Bundle, config: TrainConfig, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    later = dataclasses.replace(
        config, work=work, start=str(exported.path), sentences=(), dev=None, stretch=4,
        phases=(PhaseConfig(25, ("ahead",)),), optimizer=OptimizerConfig(rate=1e-4, warmup=1),
    )  # fmt: skip
    found = run(later)
    assert found.config == trained.config
    assert logged(work, "loss")[25] < 0.1 * logged(config.work, "loss")[25]


def test_stretches_are_refused_where_canvases_are_read_whole(
    config: TrainConfig, tmp_path: Path
) -> None:
    sizes = DenoiserConfig(
        vocabulary=1, width=32, heads=2, layers=1, audio_width=TINY.width, hidden=32, warm=False
    )
    with pytest.raises(WhisfusionError, match="sees all reads whole canvases"):
        run(dataclasses.replace(config, work=tmp_path, denoiser=sizes, stretch=4))


def test_the_dev_set_is_transcribed_at_every_save(trained: Trained, config: TrainConfig) -> None:
    assert list(logged(config.work, "dev/wer")) == [100, 200]
    assert logged(config.work, "dev/wer")[200] == 0
    assert Bundle.open(config.work / "bundle").config.denoiser == trained.config
    assert list((config.work / "tensorboard").iterdir())


def test_the_bundle_of_a_run_is_a_whispers(trained: Trained) -> None:
    assert isinstance(trained.bundle, Bundle)
    assert trained.config.warm
