"""What a run learns from, counted: examples of each set, hours and share of each language."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
from rich.table import Table

from whisfusion_jax.config import TrainConfig
from whisfusion_jax.text.tokenizer import WhisperTokenizer


@dataclass(frozen=True)
class LanguageCount:
    """What there is in a language, joined and wordless examples among it."""

    examples: int
    hours: float
    share: float
    """Of all that is drawn, by the run's temperature."""


@dataclass(frozen=True)
class Counts:
    """Of a run."""

    sets: Mapping[str, int]
    """Examples of each set."""
    left_out: int
    """Examples that can't be read, or whose text Whisper is unsure of."""
    languages: Mapping[str, LanguageCount]
    """By code; "" where the model knows one language."""

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1) + "\n"

    def table(self) -> Table:
        """Of the languages."""
        table = Table("language", "examples", "hours", "share %")
        for language, count in self.languages.items():
            share = f"{100 * count.share:.1f}"
            table.add_row(language, str(count.examples), f"{count.hours:.2f}", share)
        return table


def count_speech(
    config: TrainConfig,
    sets: Mapping[str, int],
    left_out: int,
    prompts: np.ndarray,
    seconds: np.ndarray,
    tokenizer: WhisperTokenizer,
) -> Counts:
    """Count what is there by language, as its prompts name it.

    Args:
        prompts: [examples, p] int32.
        seconds: [examples] float.
    """
    names = {id_: code for code, id_ in tokenizer.languages.items()}
    which, inverse, examples = np.unique(prompts, axis=0, return_inverse=True, return_counts=True)
    hours = np.bincount(inverse.ravel(), seconds) / 3600
    weights = examples.astype(float) ** config.temperature
    codes = [next((names[token] for token in row if token in names), "") for row in which.tolist()]
    counted = zip(
        codes, examples.tolist(), hours.tolist(), (weights / weights.sum()).tolist(), strict=True
    )
    return Counts(sets, left_out, {code: LanguageCount(*rest) for code, *rest in sorted(counted)})
