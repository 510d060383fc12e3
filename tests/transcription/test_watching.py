"""A text as it came about."""

from pathlib import Path

from whisfusion_jax.text.tokenizer import open_tokenizer
from whisfusion_jax.transcription.transcript import Segment
from whisfusion_jax.transcription.watching import steps


def segment(tokens: list[int], fixed_at: list[int], confidences: list[float]) -> Segment:
    return Segment(
        0, 1, "", tuple(tokens), tuple(confidences), tuple(fixed_at), (), max(fixed_at, default=1),
        -0.1, None,
    )  # fmt: skip


def test_masked_tokens_are_dots_until_they_are_written(tokenizer_file: Path) -> None:
    tokenizer = open_tokenizer(tokenizer_file)
    text = "a b c d"
    tokens = tokenizer.encode(" " + text)
    fixed_at = [1] * (len(tokens) - 3) + [3, 3, 2]
    shown = list(steps(segment(tokens, fixed_at, [0.95] * len(tokens)), tokenizer))
    assert len(shown) == 3
    assert shown[-1].plain == text
    assert all(len(step.plain) == len(text) for step in shown)
    dots = [step.plain.count("·") for step in shown]
    assert dots == sorted(dots, reverse=True)
    assert dots[0] > dots[1] > dots[2] == 0


def test_parts_of_one_letter_are_shown_together(tokenizer_file: Path) -> None:
    tokenizer = open_tokenizer(tokenizer_file)
    tokens = tokenizer.encode(" né")
    *_, last = steps(segment(tokens, list(range(1, len(tokens) + 1)), [0.5] * 99), tokenizer)
    assert last.plain == "né"
    assert "\ufffd" not in last.plain


def test_no_text_has_no_steps(tokenizer_file: Path) -> None:
    assert list(steps(segment([], [], []), open_tokenizer(tokenizer_file))) == []
