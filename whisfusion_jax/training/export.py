"""A trained denoiser as a bundle to transcribe with."""

import dataclasses
import shutil
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import jax
import numpy as np
from flax import nnx
from jax.experimental import multihost_utils

from whisfusion_jax.bundle import Bundle, named_variables, write_bundle
from whisfusion_jax.config import DenoiserConfig
from whisfusion_jax.models.denoiser import Denoiser
from whisfusion_jax.models.stack import unstacked
from whisfusion_jax.parallel.sharding import gathered
from whisfusion_jax.storage import Tensor, in_eight_bits
from whisfusion_jax.text.shortlist import Shortlist


def export_bundle(
    whisper: Bundle, denoiser: Denoiser, config: DenoiserConfig, shortlist: Shortlist, path: Path
) -> Bundle:
    """Write the encoder, padding memory and denoiser in eight bits a weight.

    Whisper's decoder is left out. Of many processes all must call; the first one writes.

    Args:
        whisper: what the denoiser was trained on.
        path: a directory; a bundle that is there is replaced.
    """
    learned = {
        name: gathered(variable[...])
        for name, variable in named_variables(nnx.state(unstacked(nnx.clone(denoiser)))).items()
    }
    if jax.process_index() == 0:
        _write(whisper, learned, config, shortlist, path)
    multihost_utils.sync_global_devices("bundle written")
    return Bundle.open(path)


def _write(
    whisper: Bundle,
    denoiser: Mapping[str, np.ndarray],
    config: DenoiserConfig,
    shortlist: Shortlist,
    path: Path,
) -> None:
    encoder = named_variables(nnx.state(whisper.load_encoder()))
    tensors: dict[str, Tensor] = {"shortlist.tokens": Tensor.of(shortlist.tokens)}
    for name, variable in encoder.items():
        tensors |= in_eight_bits(f"encoder.{name}", np.asarray(variable[...], np.float32))
    for name, array in denoiser.items():
        tensors |= in_eight_bits(f"denoiser.{name}", array.astype(np.float32))
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
