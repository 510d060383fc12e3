"""Run the study, as far as it hasn't been run, and show what it found.

python -m benchmarks.study train OUT --data data/*/*/1.0.0
python -m benchmarks.study run OUT --sets dev SET/manifest.jsonl --recipes isct RUN/bundle
python -m benchmarks.study show OUT --picture docs/study.png
python -m benchmarks.study throughput SET/manifest.jsonl
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from rich.console import Console
from rich.progress import track

from benchmarks.study.contenders import SHIPPED, TUNED, Contender, contenders
from benchmarks.study.pictures import draw_pareto
from benchmarks.study.recipes import recipes
from benchmarks.study.tables import by_length, by_source, error_kinds, rates
from benchmarks.study.throughput import throughput
from benchmarks.tuned_decoder import tune, with_decoder
from whisfusion_jax.audio.read import read_audio
from whisfusion_jax.bundle import Bundle
from whisfusion_jax.cli import keep_compiled_programs, run
from whisfusion_jax.config import TrainConfig
from whisfusion_jax.data.augment import mixed
from whisfusion_jax.data.encoded import Encoded
from whisfusion_jax.data.manifest import Utterance, read_manifest
from whisfusion_jax.data.sources import Prepared
from whisfusion_jax.errors import WhisfusionError
from whisfusion_jax.evaluation.report import make_report
from whisfusion_jax.hub import find_bundle
from whisfusion_jax.progress import progress_bar
from whisfusion_jax.text.shortlist import Shortlist
from whisfusion_jax.training.loop import export_run, train
from whisfusion_jax.transcription.transcriber import Transcriber


def learn(
    out: tyro.conf.Positional[Path],
    data: tuple[Path, ...],
    steps: int = 400,
    only: tuple[str, ...] = (),
    seeds: tuple[int, ...] = (0,),
    heard_batches: int | None = None,
) -> None:
    """Train every recipe; a run goes on where it was stopped, and what is trained is kept.

    Args:
        out: A directory; each recipe's bundle is OUT/RECIPE/bundle.
        data: Prepared sets.
        steps: Of a recipe of one round.
        only: Recipes by name; all without it.
        seeds: Of what steps draw; a recipe's second seed, 1, is RECIPE_1.
        heard_batches: On an accelerator: ten times as much a step, of so many batches that are
            varied and heard in its memory, the same for all.
    """
    keep_compiled_programs()
    chosen = recipes(out, data, steps, heard_batches)
    heard: dict[int, Any] = {}
    for name, config in chosen.items():
        if name not in (only or (name,)):
            continue
        for seed in seeds:
            work = config.work if seed == 0 else config.work.with_name(f"{name}_{seed}")
            own = dataclasses.replace(config, work=work, seed=seed)
            with progress_bar() as progress:
                trained = train(own, progress, heard=heard)
            print(export_run(trained, own).path)
    tuned = out / TUNED / "bundle"
    if TUNED in (only or (TUNED,)) and not tuned.exists():
        print(_tuned(chosen["uniform"], tuned).path)


def _tuned(config: TrainConfig, path: Path) -> Bundle:
    """Whisper's own decoder, learning the same texts from the same states, a token at a time."""
    assert config.states is not None
    opened = Bundle.open(find_bundle(config.bundle, whole=True))
    shortlist = Shortlist.whole(opened.config.model.vocabulary, opened.tokenizer)
    encoded = Encoded(config.states)
    rate = config.optimizer.rate / 4
    decoder = tune(opened.load_decoder(), opened, encoded, shortlist, config.steps, rate)
    path.parent.mkdir(parents=True, exist_ok=True)
    return with_decoder(opened, decoder, path)


Spoken = tuple[Utterance, str | np.ndarray]
"""What is said, and the recording or its samples."""

NOISES = (10.0, 0.0)
"""Decibels of speech over white noise."""


def study(
    out: tyro.conf.Positional[Path],
    sets: dict[str, Path],
    recipes: dict[str, str] | None = None,
    only: tuple[str, ...] = (),
    most: int | None = None,
    noises: tuple[float, ...] = NOISES,
) -> None:
    """Transcribe every set by every contender; what is in OUT is kept.

    Args:
        out: A directory, for a report of each.
        sets: Names, and manifests or prepared sets, of which the split `test` is read.
        recipes: Names and bundles of what was trained beside the shipped one.
        only: Contenders whose names begin so; all without it.
        most: Recordings of each set, from all over it.
        noises: Decibels of speech over white noise, which some contenders hear besides.
    """
    keep_compiled_programs()
    bundles = {SHIPPED: "tiny.en", **(recipes or {})}
    chosen = [c for c in contenders(list(recipes or {})) if c.name.startswith(only or ("",))]
    out.mkdir(parents=True, exist_ok=True)
    for name, place in sets.items():
        spoken = _spread(_spoken(place), most)
        for contender in chosen:
            for noise in (None, *noises) if contender.noisy else (None,):
                title = name if noise is None else f"{name}, noise at {noise:g} dB"
                path = out / f"{contender.name} -- {title}.json"
                if not path.exists():
                    _write(path, _report(contender, bundles, spoken, noise, title))


def show(out: tyro.conf.Positional[Path], against: str = "ar", picture: Path | None = None) -> None:
    """Tables of what was found, and a picture of errors against passes.

    Args:
        against: The contender that ratios are to.
        picture: Draw here (.png, .svg).
    """
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(out.glob("*.json")):
        contender, _, title = path.stem.partition(" -- ")
        found.setdefault(title, {})[contender] = json.loads(path.read_text())
    if not found:
        raise WhisfusionError(f"{out}: holds no report")
    console = Console(width=140)
    for title, reports in found.items():
        for make in (rates, error_kinds, by_length, by_source):
            console.print(make(title, reports, against))
    if picture is not None:
        draw_pareto(found, against, picture)


def _report(
    contender: Contender,
    bundles: dict[str, str],
    spoken: Sequence[Spoken],
    noise: float | None,
    title: str,
) -> dict[str, Any]:
    bundle = bundles[contender.recipe]
    transcriber = Transcriber(
        Bundle.open(find_bundle(bundle, whole=contender.decoder != "diffusion")),
        decoder=contender.decoder,
        drafts=Bundle.open(find_bundle(bundle)) if contender.decoder == "exact" else None,
        language="en",
        rule=contender.rule,
        candidates=contender.candidates,
        temperature=contender.temperature,
        winner=contender.winner,
        stretch=contender.stretch,
    )
    heard = track(
        transcriber.transcribe_many([_heard(each, n, noise) for n, (_, each) in enumerate(spoken)]),
        total=len(spoken),
        description=f"{contender.name}: {title}",
        transient=True,
    )
    said = [utterance for utterance, _ in spoken]
    return make_report(said, heard, lambda: transcriber.recogniser.compile_seconds).to_dict()


def _spoken(place: Path) -> list[Spoken]:
    if place.is_file():
        return [(each, each.audio) for each in read_manifest(place)]
    prepared = Prepared(place, "test")
    examples = [prepared[number] for number in range(len(prepared))]
    return [
        (Utterance(f"{place}:{number}", each.text, each.language), each.samples)
        for number, each in enumerate(examples)
    ]


def _spread(spoken: list[Spoken], most: int | None) -> list[Spoken]:
    count = min(most or len(spoken), len(spoken))
    return [spoken[len(spoken) * number // count] for number in range(count)]


def _heard(sound: str | np.ndarray, number: int, noise: float | None) -> str | np.ndarray:
    """A recording, or its samples with noise, the same for every contender."""
    if noise is None:
        return sound
    samples = read_audio(sound) if isinstance(sound, str) else sound
    white = np.random.default_rng(number).normal(size=len(samples))
    return mixed(samples, white, noise)


def _write(path: Path, report: dict[str, Any]) -> None:
    aside = path.with_name(f".{path.name}.partial")
    aside.write_text(json.dumps(report, ensure_ascii=False))
    aside.rename(path)


_COMMANDS = {"train": learn, "run": study, "show": show, "throughput": throughput}


if __name__ == "__main__":
    run(lambda: tyro.extras.subcommand_cli_from_dict(_COMMANDS))
