"""An evaluation: every utterance's result, summed up as tables and JSON."""

import dataclasses
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from whisfusion_jax.data.manifest import Utterance
from whisfusion_jax.errors import WhisfusionError
from whisfusion_jax.evaluation.calibration import Judged, auroc, calibration_error, judge
from whisfusion_jax.evaluation.error_rates import (
    NONE,
    Errors,
    bootstrap_interval,
    character_errors,
    word_errors,
)
from whisfusion_jax.evaluation.languages import group_averages
from whisfusion_jax.text.normalise import letters, normaliser_for
from whisfusion_jax.text.scripts import BY_CHARACTER
from whisfusion_jax.transcription.transcript import Transcript

_normaliser = cache(normaliser_for)


@dataclass(frozen=True)
class Result:
    """One utterance, scored."""

    audio: str
    language: str | None
    speaker: str | None
    source: str | None
    reference: str
    """Normalised, as scored; the same for the hypothesis."""
    hypothesis: str
    words: Errors
    characters: Errors
    judged: Judged
    """Its words, as far as they are sure and right."""
    seconds: float
    compute_seconds: float
    steps: float
    """Passes of the decoder, the mean over the recording's windows."""

    @property
    def errors(self) -> Errors:
        """As the utterance's language is judged."""
        return self.characters if self.language in BY_CHARACTER else self.words

    def to_dict(self) -> dict[str, Any]:
        fields = {name: getattr(self, name) for name in _PLAIN}
        return {
            **fields,
            "words": dataclasses.asdict(self.words),
            "characters": dataclasses.asdict(self.characters),
        }


_PLAIN = (
    "audio", "language", "speaker", "source", "reference", "hypothesis", "seconds",
    "compute_seconds", "steps",
)  # fmt: skip


@dataclass(frozen=True)
class Report:
    """A test set, scored."""

    results: Sequence[Result]
    failures: Sequence[str]
    """Recordings that could not be read, in words; they are not scored."""
    compile_seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Sums, groups and every utterance, as plain JSON values."""
        return {
            "summary": self.summary,
            "by_speaker": _rates(self.results, lambda result: result.speaker),
            "by_language": self.by_language,
            "by_group": group_averages(self.by_language),
            "by_source": _rates(self.results, lambda result: result.source),
            "failures": list(self.failures),
            "utterances": [result.to_dict() for result in self.results],
        }

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=1, ensure_ascii=False)

    @property
    def by_language(self) -> dict[str, dict[str, Any]]:
        """Sums over each language's utterances."""
        return _rates(self.results, lambda result: result.language)

    @property
    def summary(self) -> dict[str, Any]:
        """Sums over all utterances, as plain JSON values."""
        words = sum((result.words for result in self.results), NONE)
        characters = sum((result.characters for result in self.results), NONE)
        audio = sum(result.seconds for result in self.results)
        compute = sum(result.compute_seconds for result in self.results)
        judged = Judged.together([result.judged for result in self.results])
        return {
            "utterances": len(self.results),
            "failures": len(self.failures),
            "hours": audio / 3600,
            "wer": words.rate,
            "wer_interval": bootstrap_interval([result.words for result in self.results]),
            "cer": characters.rate,
            "words": words.words,
            **{k: v for k, v in dataclasses.asdict(words).items() if k != "hits"},
            "steps": float(np.mean([result.steps for result in self.results])),
            "calibration_error": calibration_error(judged),
            "auroc": auroc(judged),
            "rtfx": audio / compute,
            "compile_seconds": self.compile_seconds,
            "normaliser": "whisper_normalizer: English, else basic",
        }

    def print(self, console: Console, worst: int = 10) -> None:
        """Show the summary, the groups, and the utterances with most edits."""
        summary = self.summary
        low, high = summary["wer_interval"]
        table = Table(title=f"{summary['utterances']} utterances, {summary['hours']:.2f} h")
        for column in ("", "WER %", "95 % interval", "CER %", "S/D/I", "words", "steps", "RTFx"):
            table.add_column(column, justify="right" if column else "left")
        groups = [
            (f"{title} {name}", row, "")
            for title, key in _GROUPS.items()
            for name, row in _rates(self.results, key).items()
        ]
        interval = f"{100 * low:.2f} to {100 * high:.2f}"
        for name, row, between in [("all", summary, interval), *groups]:
            edits = "/".join(str(row[k]) for k in ("substitutions", "deletions", "insertions"))
            table.add_row(
                name, f"{100 * row['wer']:.2f}", between, f"{100 * row['cer']:.2f}", edits,
                str(row["words"]), f"{row['steps']:.2f}", f"{row['rtfx']:.1f}",
            )  # fmt: skip
        console.print(table)
        averages = group_averages(self.by_language)
        if len(averages) > 1:
            said = ", ".join(f"{name} {100 * rate:.2f} %" for name, rate in averages.items())
            console.print(f"mean error rate of a group's languages: {said}")
        if summary["auroc"] is not None:
            console.print(
                f"a word's confidence: calibration error {100 * summary['calibration_error']:.1f} "
                f"%, AUROC of being right {summary['auroc']:.3f}"
            )
        self._print_worst(console, worst)
        for failure in self.failures:
            console.print(f"[red]not scored:[/red] {failure}")

    def _print_worst(self, console: Console, count: int) -> None:
        ranked = sorted(self.results, key=lambda result: result.words.edits, reverse=True)
        wrong = [result for result in ranked[:count] if result.words.edits]
        if not wrong:
            return
        table = Table(title="most edits", show_lines=True)
        for column in ("edits", "reference, hypothesis"):
            table.add_column(column)
        for result in wrong:
            table.add_row(
                str(result.words.edits),
                f"[dim]{result.audio}[/dim]\n{result.reference}\n{result.hypothesis}",
            )
        console.print(table)


_GROUPS: dict[str, Callable[[Result], str | None]] = {
    "speaker": lambda result: result.speaker,
    "language": lambda result: result.language,
    "source": lambda result: result.source,
}


def score(utterance: Utterance, transcript: Transcript) -> Result:
    """Normalise and compare one transcript."""
    normalise = _normaliser(utterance.language)
    texts = reference, hypothesis = normalise(utterance.text), normalise(transcript.text)
    return Result(
        audio=utterance.audio,
        language=utterance.language,
        speaker=utterance.speaker,
        source=utterance.source,
        reference=reference,
        hypothesis=hypothesis,
        words=word_errors(reference, hypothesis),
        characters=character_errors(*(letters(each, utterance.language) for each in texts)),
        judged=judge(
            reference, [w for segment in transcript.segments for w in segment.words], normalise
        ),
        seconds=transcript.seconds,
        compute_seconds=transcript.compute_seconds,
        steps=transcript.steps,
    )


def make_report(
    utterances: Iterable[Utterance],
    transcripts: Iterable[Transcript | WhisfusionError],
    compile_seconds: Callable[[], float] = lambda: 0.0,
) -> Report:
    """Score transcripts in the utterances' order.

    Args:
        compile_seconds: asked once all are there.

    Raises:
        WhisfusionError: none of the recordings could be read.
    """
    results, failures = [], []
    for utterance, transcript in zip(utterances, transcripts, strict=True):
        if isinstance(transcript, WhisfusionError):
            failures.append(str(transcript))
        else:
            results.append(score(utterance, transcript))
    if not results:
        raise WhisfusionError(f"nothing to score: {failures[0]}")
    return Report(results, failures, compile_seconds())


def _rates(
    results: Sequence[Result], key: Callable[[Result], str | None]
) -> dict[str, dict[str, Any]]:
    """Error rates by group, most words first; groups without a name are left out."""
    groups: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        if (name := key(result)) is not None:
            groups[name].append(result)
    rows = {}
    for name, group in groups.items():
        words = sum((result.words for result in group), NONE)
        characters = sum((result.characters for result in group), NONE)
        rows[name] = {
            "utterances": len(group),
            "wer": words.rate,
            "cer": characters.rate,
            "error_rate": sum((result.errors for result in group), NONE).rate,
            "words": words.words,
            **{k: v for k, v in dataclasses.asdict(words).items() if k != "hits"},
            "steps": float(np.mean([result.steps for result in group])),
            "rtfx": sum(r.seconds for r in group) / sum(r.compute_seconds for r in group),
        }
    return dict(sorted(rows.items(), key=lambda item: -item[1]["words"]))
