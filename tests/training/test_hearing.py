"""A CTC head learns eight utterances by heart, and drafts them."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from rich.progress import Progress

from tests.support import TINY
from tests.training.tiny import WORDS, spoken, tiny_run
from whisfusion_jax import Transcriber
from whisfusion_jax.audio.windows import pad_to
from whisfusion_jax.config import (
    FRAMES_PER_SECOND,
    CtcConfig,
    OptimizerConfig,
    PhaseConfig,
    TrainConfig,
)
from whisfusion_jax.data.encoded import encode
from whisfusion_jax.decoding.unmasking import Repair
from whisfusion_jax.errors import WhisfusionError
from whisfusion_jax.text.merging import Merges
from whisfusion_jax.training.loop import Trained, export_run, train
from whisfusion_jax.transcription.winner import edit_distance

HEAD = dataclasses.replace(CtcConfig.of_whisper(TINY), pieces=256, layers=1)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    return dataclasses.replace(
        tiny_run(tmp_path_factory.mktemp("run")),
        ctc=HEAD,
        learned=None,
        dev=None,
        phases=(PhaseConfig(400, ()),),
        optimizer=OptimizerConfig(rate=1e-2, warmup=10, average=0.9),
        canvases=1,
        positions=8 * 100,
    )


@pytest.fixture(scope="module")
def trained(config: TrainConfig) -> Trained:
    with Progress(disable=True) as progress:
        return train(config, progress)


def test_eight_utterances_are_drafted_by_heart(trained: Trained, config: TrainConfig) -> None:
    whisper, drafts = trained.bundle, export_run(trained, config)
    head, tokenizer = drafts.load_ctc(), whisper.tokenizer
    clips = [spoken(number) for number in range(8)]
    samples = np.stack([pad_to(clip, 6) for clip in clips])
    audio = encode(whisper.load_encoder(), whisper.load_memory(), samples)
    heard = jax.jit(type(head).hear)(head, audio.states[:, : 6 * FRAMES_PER_SECOND])
    tokens, _ = jax.jit(Merges.__call__)(Merges.of(tokenizer), *heard)
    texts = [
        tokenizer.decode([token for token in row if token >= 0]).strip()
        for row in np.asarray(tokens).tolist()
    ]
    # A last letter may be anywhere in the silence behind, and so likelier nowhere at each moment.
    wrong = sum(edit_distance(*pair) for pair in zip(texts, WORDS, strict=True))
    assert wrong < 0.35 * len("".join(WORDS))
    # And it may draft for Whisper, whose text stays its own.
    exact = Transcriber(whisper, decoder="exact", drafts=drafts, stretch=5)
    greedy = Transcriber(whisper, decoder="ar")
    for clip in clips[:3]:
        ours, theirs = exact.transcribe(clip), greedy.transcribe(clip)
        assert ours.segments[0].tokens == theirs.segments[0].tokens
    # Or be repaired in a few passes.
    repaired = Transcriber(whisper, decoder="diffusion", drafts=drafts, rule=Repair(3))
    assert 1 <= repaired.transcribe(clips[0]).segments[0].steps <= 3
    for setting, message in (
        ({"decoder": "exact"}, "exact repairs what the head hears"),
        ({"decoder": "diffusion", "candidates": 4}, "with one candidate"),
    ):
        with pytest.raises(WhisfusionError, match=message):
            Transcriber(whisper, drafts=drafts, rule=Repair(3), **setting)


def test_a_head_of_another_width_is_refused(config: TrainConfig, tmp_path: Path) -> None:
    wide = dataclasses.replace(config, work=tmp_path, ctc=dataclasses.replace(HEAD, width=48))
    with Progress(disable=True) as progress, pytest.raises(WhisfusionError, match="width 48"):
        train(wide, progress)


def test_a_head_learns_while_it_hears(config: TrainConfig, tmp_path: Path) -> None:
    hearing = dataclasses.replace(
        config,
        data=(Path(config.bundle).parent / "manifest.jsonl",),
        keep_states=False,
        work=tmp_path / "whole",
        phases=(PhaseConfig(3, ()),),
        save_every=1,
        report_every=1,
    )
    stopped = dataclasses.replace(hearing, work=tmp_path / "stopped")
    with Progress(disable=True) as progress:
        train(hearing, progress)
        train(dataclasses.replace(stopped, stop_at=2), progress)
        train(stopped, progress)

    def losses(run: TrainConfig) -> list[float]:
        lines = map(json.loads, (run.work / "log.jsonl").read_text().splitlines())
        return [line["loss"] for line in lines]

    assert losses(hearing) == losses(stopped)
    assert np.isfinite(losses(hearing)).all()


def test_what_is_kept_is_heard_once(config: TrainConfig, tmp_path: Path) -> None:
    live = dataclasses.replace(
        config,
        work=tmp_path / "first",
        phases=(PhaseConfig(7, ()),),
        heard=True,
        keep_states=False,
        heard_batches=3,
        positions=100,
        save_every=7,
    )
    heard: dict[int, Any] = {}
    with Progress(disable=True) as progress:
        train(live, progress, heard=heard)
        assert sorted(heard) == [0, 1, 2]
        before = dict(heard)
        train(dataclasses.replace(live, work=tmp_path / "second", seed=1), progress, heard=heard)
    assert all(heard[number] is before[number] for number in range(3))


def test_a_head_goes_on_from_another(trained: Trained, config: TrainConfig, tmp_path: Path) -> None:
    start = str(export_run(trained, config).path)
    further = dataclasses.replace(
        config, start=start, work=tmp_path / "further", report_every=1, phases=(PhaseConfig(2, ()),)
    )
    with Progress(disable=True) as progress:
        train(further, progress)
        with pytest.raises(WhisfusionError, match="no head of these sizes"):
            train(dataclasses.replace(further, ctc=CtcConfig.of_whisper(TINY)), progress)
    lines = (further.work / "log.jsonl").read_text().splitlines()
    assert json.loads(lines[0])["loss"] < 2.0
