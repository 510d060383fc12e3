"""How long a canvas is: one of few lengths, from the length of the audio."""

CANVASES = (16, 24, 32, 48, 64, 96, 160)
"""Tokens; each is a shape to compile for."""
_TOKENS_A_SECOND = 5
"""Faster than people speak: the real recordings at hand have 2.9 on average, few above 4."""
_SPARE_TOKENS = 4


def canvas_for(seconds: float, tokens: int = 0) -> int:
    """The shortest canvas for an audio's text, and at least for so many tokens."""
    wanted = max(_TOKENS_A_SECOND * seconds + _SPARE_TOKENS, tokens)
    return next((length for length in CANVASES if length >= wanted), CANVASES[-1])
