"""A trained denoiser as a bundle to transcribe with."""

import dataclasses
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from flax import nnx

from whisfusion_jax.bundle import Bundle, named_variables, write_bundle
from whisfusion_jax.config import DenoiserConfig
from whisfusion_jax.models.denoiser import Denoiser
from whisfusion_jax.storage import Tensor, in_eight_bits
from whisfusion_jax.text.shortlist import Shortlist


def export_bundle(
    whisper: Bundle, denoiser: Denoiser, config: DenoiserConfig, shortlist: Shortlist, path: Path
) -> Bundle:
    """Write the encoder, padding memory and denoiser in eight bits a weight.

    Whisper's decoder is left out.

    Args:
        whisper: what the denoiser was trained on.
        path: a directory; a bundle that is there is replaced.
    """
    tensors: dict[str, Tensor] = {"shortlist.tokens": Tensor.of(shortlist.tokens)}
    for part, model in (("encoder", whisper.load_encoder()), ("denoiser", denoiser)):
        for name, variable in named_variables(nnx.state(model)).items():
            tensors |= in_eight_bits(f"{part}.{name}", np.asarray(variable[...], np.float32))
    settings = dataclasses.replace(
        whisper.config,
        denoiser=config,
        memory=None,
        source=f"{whisper.config.source}; denoiser trained by whisfusion_jax",
    )
    memory = whisper.load_memory()
    with TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.partial-") as work:
        text = (whisper.path / "tokenizer.json").read_text()
        made = write_bundle(Path(work) / "bundle", settings, text, tensors, packed=True)
        if memory is not None:
            made = made.with_memory(memory)
        shutil.rmtree(path, ignore_errors=True)
        made.path.rename(path)
    return Bundle.open(path)
