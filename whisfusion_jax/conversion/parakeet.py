"""Parakeet, as NeMo and transformers store it: an encoder, and a CTC head if it has one.

A transducer's prediction network and joint are passed over: what stays is an encoder on which a
denoiser can be trained. Our vocabulary is its pieces, an end token and one to start from; the
head's blank, the last of its rows there, is the first one here.
"""

import json
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from whisfusion_jax.config import CtcConfig, ParakeetConfig, TokenRules
from whisfusion_jax.conversion.checkpoint import Checkpoint, read_json
from whisfusion_jax.conversion.fastconformer import (
    nemo_rules,
    transformers_config,
    transformers_rules,
)
from whisfusion_jax.conversion.huggingface import Safetensors
from whisfusion_jax.conversion.nemo import NemoArchive, encoder_config
from whisfusion_jax.conversion.rules import Kind, LeafNames, Rule
from whisfusion_jax.conversion.sentencepiece import tokenizer_json
from whisfusion_jax.errors import ConversionError

PARAKEETS = ("parakeet_ctc", "parakeet_tdt", "parakeet_rnnt")
"""Transformers' names of the kinds."""
_ENDS = ("<|endoftext|>", "<|startoftranscript|>")
_SPECIAL = {
    "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True
}  # fmt: skip
"""How a tokenizer.json writes that a token is special."""
_OUTPUT = "ctc.output"
_NEMO_HEADS = ("ctc_decoder.decoder_layers.0", "decoder.decoder_layers.0")
"""Beside a transducer, and alone."""
_HEAD = "ctc_head"


class ParakeetCheckpoint(Checkpoint):
    """What both formats share."""

    config: ParakeetConfig
    rules = TokenRules()
    alignment_heads = ()
    _head: str | None
    """The head's name there."""
    _text: str
    """Of the tokenizer.json."""

    def _prepare(self, rules: tuple[Rule, ...], unused: str) -> None:
        pattern = re.compile(unused)
        self.ignored = frozenset(name for name in self.shapes if pattern.fullmatch(name))
        self.names = rules
        if self._head is not None:
            self.names = (*rules, Rule(_OUTPUT, self._head, Kind.POINTWISE))
            self.ctc = CtcConfig.of_encoder(self.config, self.config.vocabulary - len(_ENDS))
        elif self.ignored:
            warnings.warn(f"{self.path}: no CTC head, the encoder alone is taken", stacklevel=3)

    def tokenizer(self, beside: Path) -> str:
        return self._text

    def _in_order(self, name: str, tensor: np.ndarray) -> np.ndarray:
        own = self._head is not None and name.startswith(f"{self._head}.")
        return np.roll(tensor, 1, axis=0) if own else tensor


class NemoParakeet(ParakeetCheckpoint):
    """A `.nemo` archive of a Parakeet."""

    leaves = LeafNames(separator=".", norm_scale="weight", norm_bias="bias")

    def __init__(self, archive: NemoArchive) -> None:
        """Read the settings of an opened archive, which is closed with this.

        Raises:
            ConversionError: it is of another kind of model.
        """
        self.path, self._archive = archive.path, archive
        encoder, passed = encoder_config(archive.settings, self.path)
        if passed:
            warnings.warn(f"{self.path}: passed over: {', '.join(passed)}", stacklevel=2)
        models, main = archive.tokenizers()
        self._text, pieces = with_ends(tokenizer_json(models, main, str(self.path)), self.path)
        self.config = ParakeetConfig(encoder, pieces + len(_ENDS))
        self.shapes = archive.shapes
        heads = (name for name in _NEMO_HEADS if f"{name}.weight" in self.shapes)
        self._head = next(heads, None)
        others = rf"(?!{re.escape(str(self._head))}\.)(decoder|joint)\..*"
        unused = rf"preprocessor\..*|{others}|.*\.num_batches_tracked"
        self._prepare(nemo_rules(encoder), unused)

    def close(self) -> None:
        self._archive.close()

    def dtype(self, name: str) -> np.dtype:
        return self._archive.dtype(name)

    def read(self, name: str) -> np.ndarray:
        return self._in_order(name, self._archive.read(name))


class TransformersParakeet(Safetensors, ParakeetCheckpoint):
    """The directory of transformers' `ParakeetForCTC`, or of one of its transducers."""

    def __init__(self, path: Path) -> None:
        """Read the settings and the tensors' names and shapes.

        Raises:
            ConversionError: a file is missing or damaged.
        """
        settings = read_json(path / "config.json")
        try:
            encoder, rows = transformers_config(settings["encoder_config"]), settings["vocab_size"]
        except KeyError as missing:
            raise ConversionError(f"{path}/config.json lacks {missing}") from None
        super().__init__(path)
        self._rows = rows
        self.config = ParakeetConfig(encoder, rows - 1 + len(_ENDS))
        self._head = _HEAD if settings.get("model_type") == "parakeet_ctc" else None
        unused = r"(decoder|joint|encoder_projector)\..*|.*\.num_batches_tracked"
        self._prepare(transformers_rules(encoder), unused)

    def tokenizer(self, beside: Path) -> str:
        text, pieces = with_ends(Checkpoint.tokenizer(self, beside), beside, self._rows - 1)
        if pieces + 1 != self._rows:
            raise ConversionError(f"{beside}: {pieces} pieces, not the model's {self._rows - 1}")
        return text

    def read(self, name: str) -> np.ndarray:
        return self._in_order(name, super().read(name))


def with_ends(tokenizer: str, path: Path, blank: int | None = None) -> tuple[str, int]:
    """Put an end token and one to start from behind a tokenizer's pieces.

    Args:
        tokenizer: the text of a tokenizer.json.
        path: how errors name it.
        blank: the head's, which is no token; so are those behind it. None where none is named.

    Returns:
        the new text, and the number of pieces.

    Raises:
        ConversionError: it is no such tokenizer.
    """
    try:
        data: dict[str, Any] = json.loads(tokenizer)
        model, added = data["model"], data["added_tokens"]
        entries = model["vocab"]
        count = len(entries) if blank is None else min(blank, len(entries))
        if isinstance(entries, Mapping):
            model["vocab"] = {name: own for name, own in entries.items() if own < count}
        else:
            model["vocab"] = entries[:count]
        kept = [each for each in added if each["id"] < count]
    except (ValueError, KeyError, TypeError) as error:
        raise ConversionError(f"{path}: no tokenizer.json of pieces ({error!r})") from None
    ends = [{"id": count + at, "content": name, **_SPECIAL} for at, name in enumerate(_ENDS)]
    data["added_tokens"] = [*kept, *ends]
    return json.dumps(data, ensure_ascii=False), count
