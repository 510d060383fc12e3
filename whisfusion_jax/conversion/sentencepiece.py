"""SentencePiece models, as NeMo's archives carry them, as a tokenizer.json.

The file is a protocol buffer (`ModelProto`): pieces with scores and kinds, how they were trained,
how text is normalised. Only these fields are read.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from whisfusion_jax.errors import ConversionError

_CONTROL, _USER_DEFINED, _BYTE = 3, 4, 6
"""Kinds of pieces that are no plain ones."""
_UNIGRAM, _BPE = 1, 2
"""Kinds of models."""
_SPACE = "▁"
_FIRST_MARK = 0xE000
"""Of the characters that no text has (Unicode's private ones)."""
_MARKS = f"{chr(_FIRST_MARK)}-{chr(_FIRST_MARK + 0xFF)}"

Field = int | bytes


@dataclass(frozen=True)
class Piece:
    """An entry of the vocabulary; its place is its token."""

    text: str
    score: float
    kind: int


def tokenizer_json(models_: Sequence[bytes], main: int = 0, name: str = "tokenizer.model") -> str:
    """The text of a tokenizer.json that encodes as one of the models does, and decodes as all do.

    Args:
        models_: whose tokens stand one behind the other, as in NeMo's aggregate tokenizers.
        main: which of them encodes.
        name: how errors name them.

    Raises:
        ConversionError: one is no SentencePiece model, or of a kind without merges or scores.
    """
    try:
        all_ = [Model.read(model) for model in models_]
    except (IndexError, UnicodeDecodeError, struct.error, ValueError) as error:
        raise ConversionError(f"{name}: no SentencePiece model ({error})") from None
    if not all(0 <= each.unknown < len(each.pieces) for each in all_):
        raise ConversionError(f"{name}: no SentencePiece model, it has no pieces")
    read = all_[main]
    pieces = [
        piece if at == main else _elsewhere(piece, at)
        for at, each in enumerate(all_)
        for piece in each.pieces
    ]
    unknown = sum(len(each.pieces) for each in all_[:main]) + read.unknown
    falls_back = any(piece.kind == _BYTE for piece in read.pieces)
    if read.kind == _UNIGRAM:
        scored = [(piece.text, piece.score) for piece in pieces]
        tokenizer = Tokenizer(models.Unigram(scored, unknown, falls_back))
    elif read.kind == _BPE:
        vocabulary = {piece.text: token for token, piece in enumerate(pieces)}
        tokenizer = Tokenizer(
            models.BPE(
                vocabulary, _merges(read.pieces), unk_token=pieces[unknown].text, fuse_unk=True,
                byte_fallback=falls_back,
            )
        )  # fmt: skip
    else:
        raise ConversionError(f"{name}: a SentencePiece model of words or characters")
    steps: list[Any] = [normalizers.Precompiled(read.charsmap)] if read.charsmap else []
    if read.tidies:
        steps += [normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")]
    tokenizer.normalizer = normalizers.Sequence(steps)
    scheme = "always" if read.adds_space else "never"
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(_SPACE, scheme)
    spelled: list[Any] = [decoders.Replace(Regex(f"[{_MARKS}]"), "")] if len(all_) > 1 else []
    spelled += [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    if read.adds_space:
        spelled.append(decoders.Strip(" ", 1, 0))
    tokenizer.decoder = decoders.Sequence(spelled)
    special = [
        AddedToken(piece.text, special=piece.kind == _CONTROL, normalized=False)
        for piece in pieces
        if piece.kind in (_CONTROL, _USER_DEFINED)
    ]
    tokenizer.add_tokens(special)
    return tokenizer.to_str()


def _elsewhere(piece: Piece, model: int) -> Piece:
    """A piece that only decodes: with a mark behind it, as another model may have the same."""
    if piece.kind in (_CONTROL, _USER_DEFINED):
        return piece
    return Piece(piece.text + chr(_FIRST_MARK + model), piece.score, piece.kind)


def _merges(pieces: list[Piece]) -> list[tuple[str, str]]:
    """Pairs of pieces that make a piece, in the order in which they are merged: by its score."""
    scores = {piece.text: piece.score for piece in pieces}
    tokens = {piece.text: token for token, piece in enumerate(pieces)}
    found = []
    for piece in pieces:
        parts = [
            (piece.text[:at], piece.text[at:])
            for at in range(1, len(piece.text))
            if piece.text[:at] in scores and piece.text[at:] in scores
        ]
        parts.sort(key=lambda pair: (tokens[pair[0]], tokens[pair[1]]))
        found += [(piece.score, pair) for pair in parts]
    found.sort(key=lambda each: -each[0])
    return [pair for _, pair in found]


@dataclass(frozen=True)
class Model:
    """What is read of the file."""

    pieces: list[Piece]
    kind: int
    unknown: int
    """The piece that stands for what has none."""
    charsmap: bytes
    """The normaliser's table."""
    adds_space: bool
    """In front of a text."""
    tidies: bool
    """Takes away blanks at the ends, and all but one elsewhere."""

    @classmethod
    def read(cls, model: bytes) -> Self:
        """Raises IndexError, ValueError and their kin where the file is none."""
        pieces, trainer, normaliser = [], dict[int, Field](), dict[int, Field]()
        for field, value in _fields(model):
            if not isinstance(value, bytes):
                continue
            if field == 1:
                own = dict(_fields(value))
                (score,) = struct.unpack("<f", _bytes(own, 2) or bytes(4))
                pieces.append(Piece(_bytes(own, 1).decode(), score, _number(own, 3, 1)))
            elif field == 2:
                trainer = dict(_fields(value))
            elif field == 3:
                normaliser = dict(_fields(value))
        return cls(
            pieces,
            kind=_number(trainer, 3, _UNIGRAM),
            unknown=_number(trainer, 40, 0),
            charsmap=_bytes(normaliser, 2),
            adds_space=bool(_number(normaliser, 3, 1)),
            tidies=bool(_number(normaliser, 4, 1)),
        )


def _number(message: dict[int, Field], field: int, default: int) -> int:
    value = message.get(field, default)
    if isinstance(value, bytes):
        raise ValueError(f"field {field} is no number")
    return value


def _bytes(message: dict[int, Field], field: int) -> bytes:
    value = message.get(field, b"")
    if isinstance(value, int):
        raise ValueError(f"field {field} is a number")
    return value


def _fields(message: bytes) -> Iterator[tuple[int, Field]]:
    """A message's fields: numbers as they are, all else as bytes."""
    at = 0

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value
            if shift > 63:
                raise ValueError("a number too long")

    while at < len(message):
        key = number()
        match key & 7:
            case 0:
                yield key >> 3, number()
            case 1 | 2 | 5 as wire:
                size = {1: 8, 5: 4}.get(wire) or number()
                if at + size > len(message):
                    raise ValueError("cut short")
                yield key >> 3, message[at : at + size]
                at += size
            case wire:
                raise ValueError(f"wire type {wire}")
