"""How languages are written."""

UNSPACED = ("zh", "yue", "ja", "th", "lo", "my")
"""Without blanks between words, as OpenAI's whisper lists them."""
BY_CHARACTER = (*UNSPACED, "ko", "km")
"""Compared and scored by characters: blanks are missing, or a matter of taste."""
