"""Decoders on speech of many languages, set by set: errors beside Whisper's own, passes, tokens.

python -m benchmarks.languages --data DATA --bundle base --json languages.json
"""

import json as json_
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from benchmarks.common import open_bundle
from whisfusion_jax.bundle import Bundle
from whisfusion_jax.cli import keep_compiled_programs
from whisfusion_jax.data.sources import Prepared
from whisfusion_jax.decoding.unmasking import Repair
from whisfusion_jax.evaluation.error_rates import (
    NONE,
    Errors,
    bootstrap_interval,
    character_errors,
    word_errors,
)
from whisfusion_jax.evaluation.languages import group_averages
from whisfusion_jax.hub import find_drafts
from whisfusion_jax.progress import progress_bar
from whisfusion_jax.text.normalise import letters, normaliser_for
from whisfusion_jax.text.scripts import BY_CHARACTER
from whisfusion_jax.transcription.transcriber import Transcriber
from whisfusion_jax.transcription.transcript import Transcript

MADE = ("de", "en", "es", "fr", "it", "ja", "ko", "nl", "pl", "pt", "zh")
SETS = (
    *(f"manifest_speech/captions_{language}" for language in ("fr", "es", "ru")),
    *(f"manifest_speech/prompts_{language}" for language in ("es", "fr", "it", "ru")),
    *(f"synthetic_speech/{language}_0" for language in MADE),
)
CONTENDERS = ("ar", "exact", "diffusion")
NAMING = ("ar", "diffusion")
"""Contenders that also name the language, which costs a run of its own."""


@dataclass(frozen=True)
class Row:
    """A contender on a set."""

    name: str
    contender: str
    language: str
    errors: Sequence[Errors]
    steps: float
    """Mean passes of a recording."""
    equal: int
    """Recordings whose tokens are Whisper's own."""
    heard: int | None
    """Recordings whose language was named as Whisper names it; None if it wasn't asked."""

    @property
    def rate(self) -> float:
        return sum(self.errors, NONE).rate


def compare(
    data: Path = Path("data"),
    sets: tuple[str, ...] = SETS,
    bundle: str = "base",
    contenders: tuple[str, ...] = CONTENDERS,
    steps: int | None = None,
    stretch: int | None = None,
    drafts: str | None = None,
    most: int = 100,
    json: Path | None = None,
    picture: Path | None = None,
) -> None:
    """Transcribe the split `test` of each set by each contender.

    Args:
        data: Where prepared sets lie; SETS are below.
        sets: Those to read. Where a set has no texts, Whisper's own are held to be right.
        bundle: A multilingual Whisper.
        contenders: ar first, by which the others are judged.
        steps: Of repair, for diffusion; without it the default rule.
        stretch: Positions that a pass of diffusion reads; without it as many as this platform's.
        drafts: Whose head or denoiser drafts; without it what ships.
        most: Recordings of each set.
        json: Write all figures here, too.
        picture: Draw error rates and passes here (.png, .svg).
    """
    keep_compiled_programs()
    opened = open_bundle(bundle)
    named = drafts or find_drafts(bundle)
    head = Bundle.open(named) if named else None
    transcribers = {
        name: Transcriber(
            opened,
            decoder=name,  # type: ignore[arg-type]
            drafts=None if name == "ar" else head,
            rule=Repair(steps) if steps and name == "diffusion" else None,
            stretch=stretch if name == "diffusion" else None,
            batch_size=1,
        )
        for name in contenders
    }
    rows = []
    for each in sets:
        rows += _on_set(data / each / "1.0.0", each, transcribers, most)
        _print(rows[-len(contenders) :])
    _print(rows)
    _print_groups(rows, contenders)
    if json is not None:
        json.write_text(json_.dumps([_plain(row) for row in rows], indent=1) + "\n")
    if picture is not None:
        _draw(rows, contenders, picture)


def _on_set(path: Path, name: str, transcribers: dict[str, Transcriber], most: int) -> list[Row]:
    prepared = Prepared(path, "test")
    examples = [prepared[number] for number in range(min(most, len(prepared)))]
    language = examples[0].language
    normalise = normaliser_for(language)
    sounds = [each.samples for each in examples]
    rows = []
    by_contender = {
        contender: _transcribed(transcriber, sounds, language, name)
        for contender, transcriber in transcribers.items()
    }
    named = {
        contender: [each.language for each in _transcribed(transcriber, sounds, None, name)]
        for contender, transcriber in transcribers.items()
        if contender in NAMING
    }
    own = next(iter(by_contender.values()))
    for contender, found in by_contender.items():
        references = [each.text or right.text for each, right in zip(examples, own, strict=True)]
        errors = [
            _errors(normalise(reference), normalise(each.text), language)
            for reference, each in zip(references, found, strict=True)
        ]
        equal = sum(
            [segment.tokens for segment in each.segments]
            == [segment.tokens for segment in right.segments]
            for each, right in zip(found, own, strict=True)
        )
        same = None
        if contender in named:
            pairs = zip(named[contender], named["ar"], strict=True)
            same = sum(one == other for one, other in pairs)
        passes = float(np.mean([each.steps for each in found]))
        rows.append(Row(name, contender, language, errors, passes, equal, same))
    return rows


def rate_of(references: Sequence[str], hypotheses: Sequence[str], language: str) -> float:
    """The error rate of texts as they are written."""
    normalise = normaliser_for(language)
    errors = [
        _errors(normalise(reference), normalise(hypothesis), language)
        for reference, hypothesis in zip(references, hypotheses, strict=True)
    ]
    return sum(errors, NONE).rate


def _errors(reference: str, hypothesis: str, language: str) -> Errors:
    """On characters in languages without spaces, on words in others."""
    if language in BY_CHARACTER:
        return character_errors(letters(reference, language), letters(hypothesis, language))
    return word_errors(reference, hypothesis)


def _transcribed(
    transcriber: Transcriber, sounds: Sequence[np.ndarray], language: str | None, name: str
) -> list[Transcript]:
    with progress_bar() as progress:
        return [
            transcriber.transcribe(each, language)
            for each in progress.track(sounds, description=f"{name} {language or 'heard'}")
        ]


def _print(rows: Sequence[Row]) -> None:
    table = Table(title="error rates: on characters in Chinese, Japanese, Korean")
    for column in ("set", "", "%", "to ar", "passes", "to ar", "tokens equal", "language equal"):
        table.add_column(column, justify="left" if column in ("set", "") else "right")
    own: Row | None = None
    for row in rows:
        own = row if own is None or row.name != own.name else own
        low, high = _ratio(row.errors, own.errors)
        many = len(row.errors)
        ratio = f"{row.rate / own.rate:.3f} ({low:.2f} to {high:.2f})" if own.rate else ""
        table.add_row(
            row.name, row.contender, f"{100 * row.rate:.2f}", ratio, f"{row.steps:.2f}",
            f"{row.steps / own.steps:.2f}", f"{row.equal} of {many}",
            "" if row.heard is None else f"{row.heard} of {many}",
        )  # fmt: skip
    Console().print(table)


def _ratio(errors: Sequence[Errors], own: Sequence[Errors]) -> tuple[float, float]:
    """The interval of a rate's ratio to another's on the same recordings."""
    chosen = np.random.default_rng(0).integers(len(own), size=(1000, len(own)))
    edits = [np.array([each.edits for each in side])[chosen].sum(1) for side in (errors, own)]
    low, high = np.quantile(edits[0] / np.maximum(edits[1], 1), [0.025, 0.975])
    return float(low), float(high)


def _print_groups(rows: Sequence[Row], contenders: Sequence[str]) -> None:
    table = Table(title="made speech: mean error rate of a group's languages, %")
    table.add_column("")
    averages = {}
    for contender in contenders:
        rates = {
            row.language: {"error_rate": row.rate}
            for row in rows
            if row.contender == contender and row.name.startswith("synthetic")
        }
        averages[contender] = group_averages(rates)
    for group in averages[contenders[0]]:
        table.add_column(group, justify="right")
    for contender, by_group in averages.items():
        table.add_row(contender, *(f"{100 * rate:.2f}" for rate in by_group.values()))
    Console().print(table)


def _draw(rows: Sequence[Row], contenders: Sequence[str], path: Path) -> None:
    """Two panels: error rates, and passes, of each contender on each set."""
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(row.name for row in rows))
    figure = Figure(figsize=(11, 0.32 * len(names) + 1.5), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    height = 0.8 / len(contenders)
    for number, contender in enumerate(contenders):
        found = [row for row in rows if row.contender == contender]
        at = [names.index(row.name) + number * height for row in found]
        left.barh(at, [100 * row.rate for row in found], height)
        right.barh(at, [row.steps for row in found], height, label=contender)
    left.set_yticks([at + height for at in range(len(names))], [Path(name).name for name in names])
    left.invert_yaxis()
    left.set(xlabel="error rate, %")
    right.set(xlabel="mean passes")
    left.margins(y=0.01)
    right.legend()
    for axes in (left, right):
        axes.grid(axis="x", which="both", alpha=0.3)
    figure.savefig(path, dpi=110)


def _plain(row: Row) -> dict[str, Any]:
    low, high = bootstrap_interval(row.errors)
    return {
        "set": row.name, "contender": row.contender, "language": row.language,
        "utterances": len(row.errors), "error_rate": row.rate, "interval": [low, high],
        "steps": row.steps, "tokens_equal": row.equal, "language_equal": row.heard,
    }  # fmt: skip


if __name__ == "__main__":
    tyro.cli(compare)
