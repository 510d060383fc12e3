"""A bundle: the directory that conversion and training write and everything else loads.

config.json      sizes, token rules, where the weights came from
tokenizer.json   Hugging Face `tokenizers`
encoder/         the pre-trained encoder, an Orbax checkpoint; so are the other folders
decoder/         its own decoder; Parakeet has none, and what was trained for denoising may lack it
memory/          the padding memory; absent if there is none
denoiser/        a masked-diffusion decoder; absent if there is none
ctc/             a CTC head, which drafts for decoders; absent if there is none
shortlist/       Whisper's token for each of the denoiser's
"""

import dataclasses
import json
import os
import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from flax import nnx
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jax.typing import DTypeLike

from whisfusion_jax.config import (
    BundleConfig,
    CtcConfig,
    DenoiserConfig,
    ModelConfig,
    ParakeetConfig,
    WhisperConfig,
)
from whisfusion_jax.errors import BundleError, WhisfusionError
from whisfusion_jax.models.ctc import CtcHead, head_of
from whisfusion_jax.models.decoder import Decoder
from whisfusion_jax.models.denoiser import Denoiser
from whisfusion_jax.models.encoder import Encoder
from whisfusion_jax.models.fastconformer import FastConformer
from whisfusion_jax.models.padding_memory import PaddingMemory, memory_shapes
from whisfusion_jax.models.whisper import Whisper
from whisfusion_jax.parallel.sharding import spec_for
from whisfusion_jax.storage import Tensor, load_tensors, save_tensors
from whisfusion_jax.text.shortlist import Shortlist
from whisfusion_jax.text.tokenizer import WhisperTokenizer, open_tokenizer

Module = TypeVar("Module", bound=nnx.Module)


@dataclass(frozen=True)
class Bundle:
    """An opened bundle; weights are read when asked for."""

    path: epath.Path
    config: BundleConfig

    @classmethod
    def open(cls, path: epath.PathLike) -> "Bundle":
        """Read a bundle's config, from local disk or a bucket (`gs://`).

        Raises:
            BundleError: the directory is no bundle, or of a format this release doesn't read.
        """
        path = epath.Path(path)
        if not path.is_dir():
            raise BundleError(f"{path}: no such bundle directory")
        if "://" not in str(path):
            path = path.absolute()  # which Orbax asks for
        try:
            config = BundleConfig.from_dict(json.loads((path / "config.json").read_text()))
        except FileNotFoundError:
            raise BundleError(f"{path}: no bundle, it has no config.json") from None
        except (ValueError, TypeError, AttributeError) as error:
            hint = " (a checkpoint of another format? convert it first)"
            reason = str(error) + ("" if isinstance(error, WhisfusionError) else hint)
            raise BundleError(f"{path}/config.json: {reason}") from None
        return cls(path, config)

    @cached_property
    def tokenizer(self) -> WhisperTokenizer:
        return open_tokenizer(self.path / "tokenizer.json")

    @property
    def whisper(self) -> WhisperConfig:
        """A Whisper's sizes.

        Raises:
            BundleError: the model is another.
        """
        if not isinstance(self.config.model, WhisperConfig):
            raise BundleError(f"{self.path}: is no Whisper's bundle")
        return self.config.model

    @property
    def has_decoder(self) -> bool:
        """Whether Whisper's own decoder is there."""
        return (self.path / "decoder").is_dir()

    def load_whisper(self, dtype: DTypeLike = jnp.float32) -> Whisper:
        """Encoder and decoder with their weights in `dtype`, on the first device.

        Raises:
            BundleError: the bundle has no decoder, or is no Whisper's.
        """
        encoder = self._load("encoder", abstract_whisper(self.whisper).encoder, dtype, None)
        return Whisper(encoder, self.load_decoder(dtype))

    def load_encoder(
        self, dtype: DTypeLike = jnp.float32, mesh: Mesh | None = None
    ) -> Encoder | FastConformer:
        """The encoder in `dtype`, on the first device or spread over a mesh."""
        return self._load("encoder", abstract_encoder(self.config.model), dtype, mesh)

    def load_decoder(self, dtype: DTypeLike = jnp.float32, mesh: Mesh | None = None) -> Decoder:
        """The pre-trained decoder in `dtype`, on the first device or spread over a mesh.

        Raises:
            BundleError: the bundle has none.
        """
        if not self.has_decoder:
            raise BundleError(f"{self.path}: has no pre-trained decoder")
        return self._load("decoder", abstract_decoder(self.config.model), dtype, mesh)

    def load_denoiser(
        self, dtype: DTypeLike = jnp.float32, mesh: Mesh | None = None
    ) -> tuple[Denoiser, Shortlist]:
        """The masked-diffusion decoder in `dtype`, and what it can write.

        Args:
            mesh: to be spread over; None is the first device.

        Raises:
            BundleError: the bundle has none.
        """
        shortlist, config = self.load_shortlist(), self.config.denoiser
        assert config is not None
        return self._load("denoiser", abstract_denoiser(config), dtype, mesh), shortlist

    def load_ctc(self, dtype: DTypeLike = jnp.float32, mesh: Mesh | None = None) -> CtcHead:
        """The CTC head in `dtype`, on the first device or spread over a mesh.

        Raises:
            BundleError: the bundle has none.
        """
        if (config := self.config.ctc) is None:
            raise BundleError(f"{self.path}: has no CTC head")
        abstract = nnx.eval_shape(lambda: head_of(config, rngs=_OneKey()))
        return self._load("ctc", abstract, dtype, mesh)

    def load_shortlist(self) -> Shortlist:
        """What the denoiser can write.

        Raises:
            BundleError: the bundle has none.
        """
        if self.config.denoiser is None:
            raise BundleError(f"{self.path}: has no denoiser")
        shape = jax.ShapeDtypeStruct((self.config.denoiser.vocabulary,), jnp.int32)
        tokens = load_tensors(self.path / "shortlist", {"tokens": shape})["tokens"]
        return Shortlist(np.asarray(tokens), self.tokenizer)

    def _load(self, part: str, abstract: Module, dtype: DTypeLike, mesh: Mesh | None) -> Module:
        graph, state = nnx.split(abstract)
        variables = named_variables(state)
        targets = {
            name: jax.ShapeDtypeStruct(
                variable.shape,
                jnp.dtype(dtype)
                if jnp.issubdtype(variable.dtype, jnp.floating)
                else variable.dtype,
                sharding=mesh and NamedSharding(mesh, spec_for(name, variable.shape, mesh)),
            )
            for name, variable in variables.items()
        }
        loaded = load_tensors(self.path / part, targets)
        for name, variable in variables.items():
            variable.set_value(loaded[name])
        return nnx.merge(graph, state)

    def load_memory(self, mesh: Mesh | None = None) -> PaddingMemory | None:
        """The padding memory in float32, on the first device or on all of a mesh.

        Returns:
            None if the bundle has none.
        """
        if self.config.memory is None:
            return None
        shapes = memory_shapes(self.whisper, self.config.memory)
        everywhere = mesh and NamedSharding(mesh, P())
        targets = {
            name: jax.ShapeDtypeStruct(shape, jnp.float32, sharding=everywhere)
            for name, shape in shapes.items()
        }
        return PaddingMemory(
            **load_tensors(self.path / "memory", targets), config=self.config.memory
        )

    def with_memory(self, memory: PaddingMemory) -> "Bundle":
        """Store a padding memory in the bundle, in place of any it had."""
        aside = self.path / ".memory.partial"
        aside.rmtree(missing_ok=True)
        names = memory_shapes(self.whisper, memory.config)
        tensors = {name: Tensor.of(np.asarray(getattr(memory, name))) for name in names}
        save_tensors(aside, tensors)
        (self.path / "memory").rmtree(missing_ok=True)
        aside.rename(self.path / "memory")
        config = dataclasses.replace(self.config, memory=memory.config)
        _write_config(self.path, config)
        return Bundle(self.path, config)


class _OneKey(nnx.Rngs):
    """The same key for all: counting keys under a trace costs the square of their number."""

    def params(self) -> jax.Array:
        return jax.random.key(0)


def abstract_encoder(config: ModelConfig) -> Encoder | FastConformer:
    """The encoder's structure and shapes, without any weights."""
    if isinstance(config, WhisperConfig):
        return nnx.eval_shape(lambda: Encoder(config, rngs=_OneKey()))
    return nnx.eval_shape(lambda: FastConformer(config.encoder, rngs=_OneKey()))


def abstract_decoder(config: ModelConfig) -> Decoder:
    """The decoder's structure and shapes, without any weights."""
    assert not isinstance(config, ParakeetConfig)  # which has none
    return nnx.eval_shape(lambda: Decoder(config, rngs=_OneKey()))


def abstract_whisper(config: WhisperConfig) -> Whisper:
    """A Whisper's structure and shapes, without any weights."""
    rngs = _OneKey()
    return nnx.eval_shape(lambda: Whisper(Encoder(config, rngs=rngs), Decoder(config, rngs=rngs)))


def abstract_denoiser(config: DenoiserConfig) -> Denoiser:
    """A denoiser's structure and shapes, without any weights."""
    return nnx.eval_shape(lambda: Denoiser(config, rngs=_OneKey()))


def named_variables(state: nnx.State) -> dict[str, nnx.Variable]:
    """A state's variables by dotted name, such as `encoder.blocks.0.attention.query.kernel`."""
    return {".".join(map(str, path)): variable for path, variable in nnx.to_flat_state(state)}


def parameter_shapes(
    config: ModelConfig, ctc: CtcConfig | None = None
) -> dict[str, tuple[int, ...]]:
    """Every weight of a pre-trained model with its shape; names begin as its bundle's folders."""
    parts: dict[str, nnx.Module] = {}
    if not isinstance(config, ParakeetConfig):
        parts["decoder"] = abstract_decoder(config)
    parts["encoder"] = abstract_encoder(config)
    if ctc is not None:
        parts["ctc"] = nnx.eval_shape(lambda: head_of(ctc, rngs=_OneKey()))
    return {
        f"{part}.{name}": tuple(variable.shape)
        for part, module in parts.items()
        for name, variable in named_variables(nnx.state(module)).items()
    }


def write_bundle(
    path: epath.PathLike,
    config: BundleConfig,
    tokenizer: str,
    tensors: Mapping[str, Tensor],
    packed: bool = False,
) -> Bundle:
    """Write a new bundle; it appears whole or not at all.

    Args:
        path: a directory that doesn't exist yet.
        tokenizer: the text of a tokenizer.json.
        tensors: by name, the first part of which is the folder: those of `parameter_shapes`, and
            of other parts.
        packed: few files, see `save_tensors`.

    Raises:
        BundleError: `path` exists.
    """
    path = epath.Path(path)
    parts: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        parts[part][rest] = tensor
    with _written_aside(path) as aside:
        (aside / "tokenizer.json").write_text(tokenizer)
        for part, named in parts.items():
            save_tensors(aside / part, named, packed)
        _write_config(aside, config)
    return Bundle(path, config)


@contextmanager
def _written_aside(path: epath.Path) -> Iterator[epath.Path]:
    """A directory beside `path` that takes its name at the end, or is removed."""
    if path.exists():
        raise BundleError(f"{path}: already exists")
    aside = path.parent / f".{path.name}.partial-{os.getpid()}"
    try:
        aside.mkdir(parents=True)
        yield aside
        aside.rename(path)
    except OSError as error:
        raise BundleError(f"{path}: can't be written ({error.strerror or error})") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _write_config(path: epath.Path, config: BundleConfig) -> None:
    aside = path / ".config.json.partial"
    aside.write_text(json.dumps(config.to_dict(), indent=1) + "\n")
    aside.replace(path / "config.json")
