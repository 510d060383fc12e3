import json
import shutil
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from tests.support import TINY, random_bundle, random_tensors, speechlike
from whisfusion_jax.bundle import Bundle
from whisfusion_jax.config import BundleConfig, MemoryConfig
from whisfusion_jax.conversion.memory import add_memory
from whisfusion_jax.errors import BundleError, WhisfusionError


@pytest.fixture
def copy(tiny_bundle: Bundle, tmp_path: Path) -> Path:
    shutil.copytree(tiny_bundle.path, tmp_path / "bundle")
    return tmp_path / "bundle"


def test_weights_come_back(tiny_bundle: Bundle) -> None:
    whisper = Bundle.open(tiny_bundle.path).load_whisper()
    expected = random_tensors(TINY)["decoder.blocks.1.cross_attention.key.kernel"]
    np.testing.assert_array_equal(whisper.decoder.blocks[1].cross_attention.key.kernel, expected)


def test_a_path_may_be_relative(tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(str(tiny_bundle.path))
    monkeypatch.chdir(folder.parent)
    whisper = Bundle.open(folder.name).load_whisper()
    assert whisper.decoder.embedding.shape == (TINY.vocabulary, TINY.width)


def test_weights_come_in_the_wanted_dtype(tiny_bundle: Bundle) -> None:
    whisper = tiny_bundle.load_whisper(jnp.bfloat16)
    assert whisper.encoder.norm.scale.dtype == jnp.bfloat16


def test_a_memory_is_kept(copy: Path) -> None:
    assert Bundle.open(copy).load_memory() is None
    config = MemoryConfig(pool=25, loudness=None)
    made = add_memory(Bundle.open(copy), [speechlike(3), speechlike(20)], config)
    memory = Bundle.open(copy).load_memory()
    assert memory is not None
    assert memory.config == made.config.memory == config
    assert memory.keys.shape == (2, 2, 48, 16)
    assert memory.states.shape == (48, 32)
    # a second one takes its place
    add_memory(Bundle.open(copy), [speechlike(3)], MemoryConfig(pool=50))
    again = Bundle.open(copy).load_memory()
    assert again is not None
    assert again.states.shape == (24, 32)


def test_a_memory_needs_a_recording(tiny_bundle: Bundle) -> None:
    with pytest.raises(WhisfusionError, match="at least one recording"):
        add_memory(tiny_bundle, [])


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda path: shutil.rmtree(path), "no such bundle"),
        (lambda path: (path / "config.json").unlink(), "no config.json"),
        (lambda path: (path / "config.json").write_text("nonsense"), "config.json"),
        (lambda path: (path / "config.json").write_text('{"format": 9}'), "format 9"),
        (lambda path: (path / "config.json").write_text('{"a": 1}'), "format None"),
    ],
)
def test_what_is_no_bundle_is_named(spoil, reason: str, copy: Path) -> None:
    spoil(copy)
    with pytest.raises(BundleError, match=reason):
        Bundle.open(copy)


def test_an_unknown_setting_is_named_with_the_nearest(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    config["model"]["mel_bin"] = config["model"].pop("mel_bins")
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(BundleError, match="no field 'mel_bin'; did you mean 'mel_bins'"):
        Bundle.open(copy)


def test_missing_weights_are_named(copy: Path) -> None:
    shutil.rmtree(copy / "encoder")
    with pytest.raises(BundleError, match="encoder: no Orbax checkpoint"):
        Bundle.open(copy).load_whisper()


def test_weights_of_another_size_are_named(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    config["model"]["encoder_layers"] = 3
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(BundleError, match=r"encoder: blocks\.2\.attention.* is missing"):
        Bundle.open(copy).load_whisper()


def test_config_survives_the_round_trip(tiny_bundle: Bundle) -> None:
    config = tiny_bundle.config
    assert BundleConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    random_bundle(tmp_path / "one")
    assert [path.name for path in tmp_path.iterdir()] == ["one"]
