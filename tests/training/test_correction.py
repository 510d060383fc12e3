"""A denoiser that sees all learns to mend a CTC head's drafts, and what it wrote itself."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from rich.progress import Progress

from tests.support import TINY
from tests.training.tiny import WORDS, spoken, tiny_run
from whisfusion_jax import Transcriber
from whisfusion_jax.bundle import Bundle
from whisfusion_jax.config import CtcConfig, OptimizerConfig, PhaseConfig, TrainConfig
from whisfusion_jax.decoding.unmasking import TopN
from whisfusion_jax.errors import WhisfusionError
from whisfusion_jax.training.loop import export_run, train


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    """With a head that has learned little, so that its drafts err."""
    folder = tmp_path_factory.mktemp("run")
    run = dataclasses.replace(tiny_run(folder), dev=None, learned=None)
    head = dataclasses.replace(
        run,
        work=folder / "head",
        ctc=dataclasses.replace(CtcConfig.of_whisper(TINY), pieces=256, layers=1),
        phases=(PhaseConfig(100, ()),),
        optimizer=OptimizerConfig(rate=1e-2, warmup=10, average=0.9),
        canvases=1,
        positions=8 * 100,
    )
    with Progress(disable=True) as progress:
        drafts = export_run(train(head, progress), head)
    return dataclasses.replace(
        run,
        both_ways=True,
        drafts=str(drafts.path),
        commonest=TINY.vocabulary,
        phases=(PhaseConfig(250, ("high_mask", "uniform"), rounds=2, drafted=2),),
        optimizer=OptimizerConfig(rate=3e-3, warmup=20, average=0.9),
        positions=48 * 4 * 8,
        seen=0.5,
    )


@pytest.fixture(scope="module")
def trained(config: TrainConfig) -> Bundle:
    with Progress(disable=True) as progress:
        return export_run(train(config, progress), config)


def test_drafts_are_mended_in_few_steps(trained: Bundle) -> None:
    clips = [spoken(number) for number in range(8)]
    for rule in (None, TopN(1, rewrites=True)):
        found = list(Transcriber(trained, rule=rule).transcribe_many(clips))
        assert [each.text for each in found] == WORDS
        assert max(segment.steps for each in found for segment in each.segments) <= 4


def test_canvases_are_written_without_any_draft(trained: Bundle) -> None:
    found = Transcriber(trained, rule=TopN(4)).transcribe_many([spoken(n) for n in range(8)])
    right = [each.text == word for each, word in zip(found, WORDS, strict=True)]
    assert np.mean(right) > 0.8


def test_each_round_is_reported(trained: Bundle, config: TrainConfig) -> None:
    lines = map(json.loads, (config.work / "log.jsonl").read_text().splitlines())
    again = [line["again/accuracy"] for line in lines if "again/accuracy" in line]
    assert again[-1] > max(again[0], 0.9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"drafts": None}, "name the bundle whose head hears"),
        ({"commonest": 0}, "only a denoiser of all of Whisper's"),
        ({"stretch": 4}, "sees all reads whole canvases"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    change: dict[str, object], message: str, config: TrainConfig, tmp_path: Path
) -> None:
    other = dataclasses.replace(config, work=tmp_path, **change)
    with Progress(disable=True) as progress, pytest.raises(WhisfusionError, match=message):
        train(other, progress)


def test_drafts_of_another_whispers_head_are_refused(config: TrainConfig, tmp_path: Path) -> None:
    other = dataclasses.replace(config, work=tmp_path, drafts="tiny.en")
    with (
        Progress(disable=True) as progress,
        pytest.raises(WhisfusionError, match="has no CTC head"),
    ):
        train(other, progress)
