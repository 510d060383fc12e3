"""Whisfusion's three groups of languages, each judged by the mean of its languages' error rates."""

from collections.abc import Mapping
from statistics import mean
from typing import Any

GROUPS: Mapping[str, tuple[str, ...]] = {
    "English": ("en",),
    "European": ("de", "es", "fr", "it", "nl", "pl", "pt"),
    "Chinese, Japanese, Korean": ("zh", "ja", "ko"),
}


def group_averages(by_language: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Mean error rates of the groups of which any language is there.

    Args:
        by_language: `error_rate` of each: on characters in Chinese, Japanese, Korean, on words in
            others.
    """
    found = {
        name: [by_language[each]["error_rate"] for each in languages if each in by_language]
        for name, languages in GROUPS.items()
    }
    return {name: mean(rates) for name, rates in found.items() if rates}
