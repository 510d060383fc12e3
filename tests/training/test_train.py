"""A tiny run: learn eight utterances by heart, stop, go on, transcribe."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from rich.progress import Progress

from tests.support import TINY, manifest, random_bundle, speechlike
from whisfusion_jax import Transcriber
from whisfusion_jax.audio.read import read_audio
from whisfusion_jax.bundle import Bundle
from whisfusion_jax.config import DenoiserConfig, OptimizerConfig, PhaseConfig, TrainConfig
from whisfusion_jax.conversion.memory import add_memory
from whisfusion_jax.data.manifest_speech import ManifestSpeech, ManifestSpeechConfig
from whisfusion_jax.decoding.unmasking import (
    PositionBiased,
    RandomRemask,
    Threshold,
    TopN,
    UnmaskingRule,
)
from whisfusion_jax.errors import BundleError, WhisfusionError
from whisfusion_jax.hub import CLIPS
from whisfusion_jax.training.export import export_bundle
from whisfusion_jax.training.loop import Trained, train

WORDS = "red green blue white black grey pink brown".split()  # noqa: SIM905


def write_wave(path: Path, samples: np.ndarray) -> None:
    import wave

    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes((samples * 32767).astype(np.int16).tobytes())


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    folder = tmp_path_factory.mktemp("run")
    bundle = random_bundle(folder / "whisper", TINY)
    add_memory(bundle, [read_audio(clip) for clip in sorted(CLIPS.glob("*.wav"))])
    rows = []
    for number, word in enumerate(WORDS):
        write_wave(folder / f"{number}.wav", speechlike(1.5, number))
        rows.append({"audio": f"{number}.wav", "text": word, "speaker": "a" if number else "b"})
    manifest(folder / "manifest.jsonl", rows)
    builder = ManifestSpeech(
        config=ManifestSpeechConfig(name="colours", manifest=str(folder / "manifest.jsonl")),
        data_dir=folder / "data",
        file_format="array_record",
    )
    builder.download_and_prepare()
    (folder / "sentences.txt").write_text("\n".join(WORDS))
    return TrainConfig(
        work=folder / "work",
        data=(Path(builder.data_dir),),
        sentences=(folder / "sentences.txt",),
        bundle=str(bundle.path),
        commonest=0,
        phases=(PhaseConfig(200, ("ahead", "uniform")), PhaseConfig(200, ("high_mask",))),
        optimizer=OptimizerConfig(rate=1e-2, warmup=20, average=0.95),
        learned=(".*",),
        augmented=0.0,
        joined=0.0,
        wordless=0.0,
        positions=16 * 4 * 8,
        canvases=4,
        teacher=0.0,
        save_every=200,
        dev=folder / "manifest.jsonl",
    )


def run(config: TrainConfig) -> Trained:
    with Progress(disable=True) as progress:
        return train(config, progress)


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
        trained.bundle, trained.denoiser, trained.config, trained.shortlist, config.work / "bundle"
    )


def test_eight_utterances_are_learned_by_heart(exported: Bundle) -> None:
    transcriber = Transcriber(Bundle.open(exported.path))
    clips = [speechlike(1.5, number) for number in range(8)]
    assert [found.text for found in transcriber.transcribe_many(clips)] == WORDS


def test_a_trained_bundle_holds_what_diffusion_needs(exported: Bundle) -> None:
    assert not exported.has_decoder
    with pytest.raises(BundleError, match="no decoder"):
        Transcriber(exported, decoder="ar")


@pytest.mark.parametrize("rule", [TopN(3), RandomRemask(), PositionBiased(), Threshold(steps=3)])
def test_any_rule_and_candidates_transcribe(exported: Bundle, rule: UnmaskingRule) -> None:
    transcriber = Transcriber(exported, rule=rule, candidates=3, temperature=0.3)
    (segment,) = transcriber.transcribe(speechlike(1.5, 2)).segments
    assert segment.text == WORDS[2]
    assert len(segment.tokens) == len(segment.confidences) == len(segment.fixed_at)
    assert [word.text for word in segment.words] == [WORDS[2]]
    assert max(segment.fixed_at) <= segment.steps <= rule.steps


def test_a_stopped_run_goes_on_to_the_same_end(
    trained: Trained, config: TrainConfig, tmp_path: Path
) -> None:
    losses = logged(config.work, "loss")
    assert list(losses) == list(range(25, 401, 25))
    work = tmp_path / "work"
    short = dataclasses.replace(config, work=work, dev=None, stop_at=250)
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
    with pytest.raises(WhisfusionError, match="from scratch reads whole canvases"):
        run(dataclasses.replace(config, work=tmp_path, denoiser=sizes, stretch=4))


def test_the_dev_set_is_transcribed_at_every_save(trained: Trained, config: TrainConfig) -> None:
    assert list(logged(config.work, "dev/wer")) == [200, 400]
    assert logged(config.work, "dev/wer")[400] == 0
    assert Bundle.open(config.work / "bundle").config.denoiser == trained.config
    assert list((config.work / "tensorboard").iterdir())


def test_the_bundle_of_a_run_is_a_whispers(trained: Trained) -> None:
    assert isinstance(trained.bundle, Bundle)
    assert trained.config.warm
