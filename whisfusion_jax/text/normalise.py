"""Text normalisers that error rates are counted on: Whisper's, by library."""

from collections.abc import Callable

from whisper_normalizer.basic import BasicTextNormalizer
from whisper_normalizer.english import EnglishTextNormalizer

from whisfusion_jax.text.scripts import BY_CHARACTER

Normaliser = Callable[[str], str]


def normaliser_for(language: str | None) -> Normaliser:
    """Whisper's English normaliser, or its basic one for any other language.

    Args:
        language: a code; None is English.
    """
    if language in (None, "en"):
        return EnglishTextNormalizer()
    return BasicTextNormalizer(split_letters=language in BY_CHARACTER)


def letters(text: str, language: str | None) -> str:
    """A normalised text whose characters are to be counted.

    Returns:
        without blanks in languages of which the normaliser puts one between any two letters.
    """
    return text.replace(" ", "") if language in BY_CHARACTER else text
