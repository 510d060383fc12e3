"""How a text came about: its tokens at each step, in the colours of their confidence."""

from collections.abc import Iterator

from rich.text import Text

from whisfusion_jax.text.tokenizer import WhisperTokenizer
from whisfusion_jax.transcription.transcript import Segment
from whisfusion_jax.transcription.writing import colour_of

_MASK = "·"


def steps(segment: Segment, tokenizer: WhisperTokenizer) -> Iterator[Text]:
    """What stands after each pass of the decoder; the rest is masked.

    A diffusion decoder writes several tokens a step, not always from left to right.
    """
    pieces = _pieces(segment, tokenizer)
    for step in range(1, max(segment.fixed_at, default=0) + 1):
        shown = Text()
        for piece, confidence, fixed_at in pieces:
            if fixed_at > step:
                blank = piece[: len(piece) - len(piece.lstrip())]
                shown.append(blank + _MASK * len(piece.strip()), "dim")
            else:
                new = " underline" if fixed_at == step else ""
                shown.append(piece, colour_of(confidence) + new)
        yield shown


def _pieces(segment: Segment, tokenizer: WhisperTokenizer) -> list[tuple[str, float, int]]:
    """Text, least confidence and step of tokens; those that are parts of one letter together."""
    found: list[tuple[str, float, int]] = []
    begin = 0
    for end in range(1, len(segment.tokens) + 1):
        piece = tokenizer.decode(segment.tokens[begin:end])
        if piece.endswith("\ufffd") and end < len(segment.tokens):
            continue
        own = slice(begin, end)
        piece = piece if found else piece.lstrip()
        found.append((piece, min(segment.confidences[own]), max(segment.fixed_at[own])))
        begin = end
    return found
