"""Tables of the study, out of reports by contender."""

import math
from collections.abc import Mapping
from typing import Any

import jiwer
import numpy as np
from rich.table import Table

Reports = Mapping[str, Mapping[str, Any]]
"""By contender, as `Report.to_dict` has them."""

LENGTHS = (3.0, 6.0, 10.0, 30.0)
"""Seconds between which utterances are counted together."""


def rates(title: str, reports: Reports, against: str) -> Table:
    """Error rates, their ratio to a contender's with a bootstrap interval, passes, calibration."""
    table = _table(
        title, "contender", "WER %", "95 %", f"to {against}", "95 %", "passes", "calibration %",
        "AUROC", "RTFx",
    )  # fmt: skip
    for name, report in reports.items():
        summary = report["summary"]
        low, high = summary["wer_interval"]
        ratio, (least, most) = _ratio(report, reports.get(against, report))
        table.add_row(
            name, f"{100 * summary['wer']:.2f}", f"{100 * low:.2f} to {100 * high:.2f}",
            f"{ratio:.2f}", f"{least:.2f} to {most:.2f}", f"{summary['steps']:.2f}",
            f"{100 * summary['calibration_error']:.1f}", _auroc(summary),
            f"{summary['rtfx']:.1f}",
        )  # fmt: skip
    return table


def error_kinds(title: str, reports: Reports, against: str) -> Table:
    """Of each contender's wrong words: substituted, dropped, inserted, repeated, swapped."""
    del against
    kinds = ("substituted", "dropped", "inserted", "repeated", "swapped")
    table = _table(f"{title}: words", "contender", *kinds)
    for name, report in reports.items():
        counts = np.sum([_kinds(each) for each in report["utterances"]], axis=0)
        table.add_row(name, *map(str, counts))
    return table


def by_length(title: str, reports: Reports, against: str) -> Table:
    """Error rates by the utterances' seconds."""
    del against
    spans = list(zip((0.0, *LENGTHS[:-1]), LENGTHS, strict=True))
    columns = [f"{begin:g} to {end:g} s" for begin, end in spans]
    table = _table(f"{title}: WER % by length", "contender", *columns)
    for name, report in reports.items():
        cells = []
        for begin, end in spans:
            inside = [u["words"] for u in report["utterances"] if begin < u["seconds"] <= end]
            wrong = sum(w["substitutions"] + w["deletions"] + w["insertions"] for w in inside)
            words = sum(w["hits"] + w["substitutions"] + w["deletions"] for w in inside)
            cells.append(f"{100 * wrong / words:.2f}" if words else "")
        table.add_row(name, *cells)
    return table


def by_source(title: str, reports: Reports, against: str) -> Table:
    """Error rates by where a set's utterances come from."""
    del against
    sources = list(
        dict.fromkeys(each for report in reports.values() for each in report["by_source"])
    )
    table = _table(f"{title}: WER % by source", "contender", *sources)
    for name, report in reports.items():
        found = report["by_source"]
        table.add_row(name, *(f"{100 * found[each]['wer']:.2f}" for each in sources))
    return table


def _auroc(summary: Mapping[str, Any]) -> str:
    """Empty where all words are right, or all wrong."""
    return "" if summary["auroc"] is None else f"{summary['auroc']:.3f}"


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    return table


def _counts(report: Mapping[str, Any]) -> np.ndarray:
    """[utterances, 2]: edits and words."""
    return np.array(
        [
            (w["substitutions"] + w["deletions"] + w["insertions"],
             w["hits"] + w["substitutions"] + w["deletions"])
            for w in (each["words"] for each in report["utterances"])
        ]
    )  # fmt: skip


def _ratio(own: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[float, tuple[float, float]]:
    """Of two error rates on the same utterances, and the middle 95 % over resampled ones."""
    pair = np.stack([_counts(own), _counts(other)])
    drawn = np.random.default_rng(0).integers(pair.shape[1], size=(1000, pair.shape[1]))
    edits, words = np.moveaxis(pair[:, drawn].sum(2), -1, 0)
    rate = edits / words
    # Draws in which the other has no errors say nothing.
    some = rate[1] > 0
    total = pair.sum(1)
    whole = total[:, 0] / total[:, 1]
    if not some.any() or not whole[1]:
        return math.nan, (math.nan, math.nan)
    least, most = np.quantile(rate[0][some] / rate[1][some], [0.025, 0.975])
    return float(whole[0] / whole[1]), (float(least), float(most))


def _kinds(utterance: Mapping[str, Any]) -> np.ndarray:
    """[5]: words substituted, dropped, inserted, of these repeated, and swapped with the next."""
    said, heard = utterance["reference"].split(), utterance["hypothesis"].split()
    counts = utterance["words"]
    repeated = swapped = 0
    if said and heard:
        for chunk in jiwer.process_words(" ".join(said), " ".join(heard)).alignments[0]:
            begin, end = chunk.hyp_start_idx, chunk.hyp_end_idx
            if chunk.type == "insert":
                repeated += sum(at > 0 and heard[at] == heard[at - 1] for at in range(begin, end))
            elif chunk.type == "substitute" and end - begin >= 2:
                truth = said[chunk.ref_start_idx : chunk.ref_end_idx]
                pairs = zip(heard[begin:end], heard[begin + 1 : end], strict=False)
                backwards = set(zip(truth[1:], truth, strict=False))
                swapped += sum(pair in backwards for pair in pairs)
    return np.array(
        [counts["substitutions"], counts["deletions"], counts["insertions"], repeated, swapped]
    )
