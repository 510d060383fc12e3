"""What a run says of its speech."""

from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from tests.support import byte_tokenizer
from whisfusion_jax.config import TrainConfig
from whisfusion_jax.text.tokenizer import WhisperTokenizer
from whisfusion_jax.training.counts import LanguageCount, count_speech

TOKENIZER = WhisperTokenizer(Tokenizer.from_str(byte_tokenizer()))


def counted(temperature: float, languages: list[str | None]) -> dict[str, LanguageCount]:
    config = TrainConfig(Path(), (), (), (), temperature=temperature)
    prompts = np.array([TOKENIZER.prompt(language) for language in languages])
    seconds = np.full(len(languages), 1800.0)
    return dict(count_speech(config, {}, 0, prompts, seconds, TOKENIZER).languages)


def test_languages_are_counted_with_their_share() -> None:
    languages = ["de", *4 * ["en"]]
    assert counted(1.0, languages) == {
        "de": LanguageCount(1, 0.5, 0.2),
        "en": LanguageCount(4, 2.0, 0.8),
    }
    assert counted(0.5, languages)["en"].share == pytest.approx(2 / 3)


def test_where_none_is_named_all_are_one() -> None:
    assert counted(0.5, [None, None]) == {"": LanguageCount(2, 1.0, 1.0)}
