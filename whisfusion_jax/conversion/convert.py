"""Any known checkpoint to a bundle, tensor by tensor."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from jax.typing import DTypeLike

from whisfusion_jax.bundle import Bundle, parameter_shapes, write_bundle
from whisfusion_jax.config import BundleConfig
from whisfusion_jax.conversion.canary import NemoCanary, TransformersCanary
from whisfusion_jax.conversion.checkpoint import Checkpoint, read_json
from whisfusion_jax.conversion.ctranslate2 import CTranslate2Checkpoint
from whisfusion_jax.conversion.huggingface import HuggingFaceCheckpoint
from whisfusion_jax.conversion.nemo import NemoArchive
from whisfusion_jax.conversion.openai import OpenAICheckpoint
from whisfusion_jax.conversion.parakeet import PARAKEETS, NemoParakeet, TransformersParakeet
from whisfusion_jax.conversion.rules import Plan, Source, plan
from whisfusion_jax.errors import ConversionError
from whisfusion_jax.storage import Tensor
from whisfusion_jax.text.suppression import default_rules
from whisfusion_jax.text.tokenizer import open_tokenizer


def open_checkpoint(path: Path) -> Checkpoint:
    """Open a checkpoint, telling its format by what is there.

    Raises:
        ConversionError: nothing known is there, or it is damaged.
    """
    if path.is_file():
        return _open_nemo(path) if path.suffix == ".nemo" else OpenAICheckpoint(path)
    if (path / "model.bin").exists():
        return CTranslate2Checkpoint(path)
    if list(path.glob("model*.safetensors*")):
        kind = read_json(path / "config.json").get("model_type")
        if kind in PARAKEETS:
            return TransformersParakeet(path)
        return TransformersCanary(path) if kind == "canary" else HuggingFaceCheckpoint(path)
    if not path.exists():
        raise ConversionError(f"{path}: no such file or directory")
    raise ConversionError(
        f"{path}: no known checkpoint; looked for model.safetensors (Hugging Face), "
        "model.bin (CTranslate2), a .pt file (OpenAI), or a .nemo archive"
    )


def _open_nemo(path: Path) -> Checkpoint:
    archive = NemoArchive(path)
    try:
        canary = "transf_decoder" in archive.settings
        return NemoCanary(archive) if canary else NemoParakeet(archive)
    except ConversionError:
        archive.close()
        raise


def convert(
    source: Path,
    out: Path,
    *,
    dtype: DTypeLike | None = None,
    tokenizer: Path | None = None,
    origin: str = "",
    on_tensor: Callable[[str, int], None] = lambda name, total: None,
) -> Bundle:
    """Convert a checkpoint to a bundle.

    Memory stays at a few times the largest tensor, whatever the model's size.

    Args:
        source: a Whisper's Hugging Face or CTranslate2 directory or OpenAI `.pt` file, or a
            Canary's or Parakeet's Hugging Face directory or `.nemo` archive.
        out: the bundle's directory, new.
        dtype: what to store weights in; None keeps the source's.
        tokenizer: a tokenizer.json; None takes the one beside the weights, or inside of them.
        origin: where the weights came from, and their licence; kept in the bundle.
        on_tensor: called with each tensor's name and the number of all, as it is read.

    Raises:
        ConversionError: the checkpoint is not readable, or any tensor is missing, unexpected or
            of the wrong shape: all are named, and nothing is written.
        BundleError: `out` exists or can't be written.
    """
    with open_checkpoint(source) as checkpoint:
        beside = (source if source.is_dir() else source.parent) / "tokenizer.json"
        text = checkpoint.tokenizer(tokenizer or beside)
        sources = plan(checkpoint.names, checkpoint.leaves, checkpoint.config.layers)
        _check(checkpoint, sources)

        def tensor(name: str, at: Source) -> Tensor:
            stored = np.dtype(dtype) if dtype is not None else checkpoint.dtype(at.name)

            def load() -> np.ndarray:
                on_tensor(name, len(sources.tensors))
                return at.take(checkpoint.read(at.name)).astype(stored, copy=False)

            return Tensor(at.shape(checkpoint.shapes[at.name]), stored, load)

        config = BundleConfig(
            model=checkpoint.config,
            rules=checkpoint.rules or default_rules(open_tokenizer(tokenizer or beside)),
            alignment_heads=checkpoint.alignment_heads,
            ctc=checkpoint.ctc,
            source=origin or f"converted from {source.name}",
        )
        tensors = {name: tensor(name, at) for name, at in sources.tensors.items()}
        return write_bundle(out, config, text, tensors)


def _check(checkpoint: Checkpoint, sources: Plan) -> None:
    """Name every tensor that is missing, unexpected or of another shape than the model's."""
    shapes = checkpoint.shapes
    used = {at.name for at in (*sources.tensors.values(), *sources.zeros)}
    problems = [f"missing: {name}" for name in sorted(used - shapes.keys())]
    problems += [
        f"unexpected: {name} {list(shapes[name])}"
        for name in sorted(shapes.keys() - used - checkpoint.ignored)
    ]
    for ours, expected in parameter_shapes(checkpoint.config, checkpoint.ctc).items():
        at = sources.tensors[ours]
        if at.name in shapes and (found := at.shape(shapes[at.name])) != expected:
            problems.append(f"mis-shaped: {at.name} gives {list(found)}, not {list(expected)}")
    if not problems:
        problems = [
            f"unexpected: the keys' part of {at.name} is not zero"
            for at in sources.zeros
            if at.take(checkpoint.read(at.name)).any()
        ]
    if problems:
        lines = "\n  ".join(problems)
        raise ConversionError(f"{checkpoint.path}: not a whole checkpoint\n  {lines}")
