"""A vocabulary put in another order: text tokens, the end token, all other special ones."""

import json
from typing import Any

import numpy as np

from whisfusion_jax.errors import ConversionError

_END = "<|endoftext|>"


def text_first(tokenizer: str, rows: int, name: str) -> tuple[str, np.ndarray]:
    """Put a tokenizer's special tokens last, the end token first among them.

    Args:
        tokenizer: the text of a tokenizer.json whose model is of pieces.
        rows: of the model's table, in which more than the tokenizer's tokens may be.
        name: how errors name it.

    Returns:
        the new text, and [rows] the old token of each new one.

    Raises:
        ConversionError: it is no such tokenizer, or has no end token.
    """
    try:
        data = json.loads(tokenizer)
        model, added = data["model"], data["added_tokens"]
        unigram = isinstance(model["vocab"], list)
        pieces: list[Any] = model["vocab"] if unigram else list(model["vocab"])
        tokens = range(len(pieces)) if unigram else list(model["vocab"].values())
        old = {(piece[0] if unigram else piece): n for piece, n in zip(pieces, tokens, strict=True)}
        special = {each["content"]: each["id"] for each in added}
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise ConversionError(f"{name}: no tokenizer.json of pieces ({error!r})") from None
    everything = old | special
    if special.pop(_END, None) is None or len(everything) > rows:
        reason = f"no {_END}" if len(everything) <= rows else f"more than the model's {rows} tokens"
        raise ConversionError(f"{name}: the tokenizer has {reason}")
    unknown = {name for name, number in old.items() if unigram and number == model["unk_id"]}
    behind = [each for each in special if each not in unknown and each != model.get("unk_token")]
    last = {_END, *behind}
    text = sorted(everything.keys() - last, key=everything.__getitem__)
    order = [*text, _END, *sorted(behind, key=everything.__getitem__)]
    new = {piece: number for number, piece in enumerate(order)}
    if unigram:
        scores = {piece[0]: piece[1] for piece in pieces}
        model["unk_id"] = new[next(iter(unknown))] if unknown else None
        model["vocab"] = [[piece, scores.get(piece, 0.0)] for piece in order]
    else:
        model["vocab"] = {piece: new[piece] for piece in order}
    for each in added:
        each["id"] = new[each["content"]]
    added.sort(key=lambda each: each["id"])
    # What is no token's stays where it was.
    known = [everything[piece] for piece in order]
    rest = sorted(set(range(rows)) - set(known))
    return json.dumps(data, ensure_ascii=False), np.array([*known, *rest])
