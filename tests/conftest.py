"""Fixtures that several test files share."""

import os
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

# Most of a test's time is compiling. Before JAX is imported, so that processes have it, too.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
if version("jaxlib").startswith("0.10."):  # XLA ends at flags that it doesn't know
    os.environ.setdefault(
        "XLA_FLAGS",
        "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1",
    )

import jax
import numpy as np
import pytest

from tests.support import TINY, byte_tokenizer, random_bundle
from whisfusion_jax import hub
from whisfusion_jax.bundle import Bundle
from whisfusion_jax.errors import WhisfusionError
from whisfusion_jax.models.whisper import Whisper
from whisfusion_jax.wheels import cache_directory

SAMPLES = Path(__file__).parent.parent / "samples"

# Programs compiled by one test serve the next run.
jax.config.update("jax_compilation_cache_dir", str(cache_directory() / "test-programs"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest comes first: no worker shall be left alone with it at the end."""
    items.sort(key=lambda item: item.path.parent.name not in ("parallel", "training"))


@pytest.fixture(scope="session")
def recorded() -> Mapping[str, np.ndarray]:
    """What transformers computed, as tests/parity/record.py wrote it down."""
    with np.load(Path(__file__).parent / "fixtures" / "transformers.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="session")
def tiny_whisper(tiny_bundle: Bundle) -> Whisper:
    return tiny_bundle.load_whisper()


@pytest.fixture(scope="session")
def tokenizer_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    path.write_text(byte_tokenizer())
    return path


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle of random weights, without a padding memory."""
    return random_bundle(tmp_path_factory.mktemp("bundles") / "tiny", TINY)


def _real(name: str) -> Bundle:
    try:
        return Bundle.open(hub.get(name))
    except WhisfusionError as error:
        pytest.skip(f"the real {name} weights can't be had: {error}")


@pytest.fixture(scope="session")
def tiny_en() -> Bundle:
    """Whisper tiny.en, real weights."""
    return _real("tiny.en")


@pytest.fixture(scope="session")
def base() -> Bundle:
    """Whisper base, real weights, multilingual."""
    return _real("base")
