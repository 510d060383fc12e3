import json
import struct
from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from tests.checkpoint_writers import write_ctranslate2, write_huggingface
from tests.support import TINY, TINY_RULES, byte_tokenizer, random_tensors
from whisfusion_jax.bundle import Bundle, named_variables
from whisfusion_jax.conversion.convert import convert
from whisfusion_jax.errors import BundleError, ConversionError

TENSORS = random_tensors(TINY, seed=4, dtype=np.float16)


def stored(bundle: Bundle, dtype: type = np.float32) -> dict[str, np.ndarray]:
    variables = named_variables(nnx.state(bundle.load_whisper(dtype)))
    return {name: np.asarray(variable[...]) for name, variable in variables.items()}


def huggingface(path: Path, tensors: dict = TENSORS, shards: int = 1) -> Path:
    return write_huggingface(path, TINY, TINY_RULES, tensors, byte_tokenizer(), shards)


def ctranslate2(path: Path, tensors: dict = TENSORS, int8: bool = False) -> Path:
    return write_ctranslate2(path, TINY, TINY_RULES, tensors, byte_tokenizer(), int8)


@pytest.mark.parametrize(
    "write",
    [huggingface, lambda path: huggingface(path, shards=3), ctranslate2],
    ids=["hugging-face", "sharded", "ctranslate2"],
)
def test_every_format_gives_the_same_bits(write: Callable[[Path], Path], tmp_path: Path) -> None:
    bundle = convert(write(tmp_path / "source"), tmp_path / "bundle")
    for name, tensor in stored(Bundle.open(bundle.path), np.float16).items():
        np.testing.assert_array_equal(tensor, TENSORS[name], err_msg=name)
    assert bundle.config.model == TINY
    assert bundle.config.rules == TINY_RULES
    assert (bundle.path / "tokenizer.json").read_text() == byte_tokenizer()


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_reads_and_writes_every_dtype(dtype: type, tmp_path: Path) -> None:
    tensors = {name: tensor.astype(dtype) for name, tensor in TENSORS.items()}
    kept = convert(huggingface(tmp_path / "source", tensors), tmp_path / "kept")
    for name, tensor in stored(kept).items():
        np.testing.assert_array_equal(tensor, tensors[name].astype(np.float32), err_msg=name)
    half = convert(tmp_path / "source", tmp_path / "half", dtype=ml_dtypes.bfloat16)
    for name, tensor in stored(half).items():
        expected = tensors[name].astype(ml_dtypes.bfloat16).astype(np.float32)
        np.testing.assert_array_equal(tensor, expected, err_msg=name)


def test_int8_comes_back_within_its_rounding(tmp_path: Path) -> None:
    bundle = convert(ctranslate2(tmp_path / "source", int8=True), tmp_path / "bundle")
    for name, tensor in stored(bundle).items():
        original = TENSORS[name].astype(np.float32)
        step = np.abs(original).max() / 127
        assert np.abs(tensor - original).max() <= 0.51 * step or "kernel" not in name


def rename(path: Path, change: Callable[[dict], None]) -> None:
    file = path / "model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)


def test_names_every_wrong_tensor_and_writes_nothing(tmp_path: Path) -> None:
    source = huggingface(tmp_path / "source")

    def spoil(tensors: dict) -> None:
        del tensors["model.encoder.conv1.bias"]
        del tensors["model.decoder.layers.1.fc2.weight"]
        tensors["model.encoder.layers.9.fc1.weight"] = np.zeros((2, 3), np.float32)
        tensors["model.decoder.layer_norm.bias"] = np.zeros(5, np.float32)
        tensors["model.encoder.layers.0.fc1.weight"] = np.zeros((7, 32), np.float32)

    rename(source, spoil)
    with pytest.raises(ConversionError) as error:
        convert(source, tmp_path / "bundle")
    lines = str(error.value).splitlines()[1:]
    assert [line.strip() for line in lines] == [
        "missing: decoder.layers.1.fc2.weight",
        "missing: encoder.conv1.bias",
        "unexpected: encoder.layers.9.fc1.weight [2, 3]",
        "mis-shaped: decoder.layer_norm.bias gives [5], not [32]",
        "mis-shaped: encoder.layers.0.fc1.weight gives [32, 7], not [32, 128]",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]


def test_tied_output_layer_is_no_weight_of_its_own(tmp_path: Path) -> None:
    source = huggingface(tmp_path / "source")
    rename(
        source,
        lambda tensors: tensors.update(
            {"proj_out.weight": tensors["model.decoder.embed_tokens.weight"]}
        ),
    )
    convert(source, tmp_path / "bundle")


def test_a_bias_of_the_keys_is_refused(tmp_path: Path) -> None:
    source = ctranslate2(tmp_path / "source")
    file = source / "model.bin"
    name = b"encoder/layer_1/self_attention/linear_0/bias\0"
    data = bytearray(file.read_bytes())
    at = data.index(name) + len(name) + 1 + 4 + 1 + 4  # rank, one dimension, type, length
    width = TINY.width
    data[at + 2 * width : at + 2 * width + 2] = np.float16(1).tobytes()  # first of the keys' part
    file.write_bytes(bytes(data))
    with pytest.raises(ConversionError, match=r"keys' part of encoder/layer_1"):
        convert(source, tmp_path / "bundle")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda path: (path / "config.json").unlink(), "No such file"),
        (lambda path: (path / "config.json").write_text("{"), "no JSON"),
        (lambda path: (path / "config.json").write_text('{"model_type": "bert"}'), "'bert'"),
        (lambda path: (path / "tokenizer.json").unlink(), "--tokenizer"),
        (lambda path: (path / "model.safetensors").write_bytes(b"abc"), "not readable"),
        (lambda path: (path / "model.safetensors").unlink(), "no known checkpoint"),
    ],
)
def test_damage_is_named(spoil: Callable[[Path], None], reason: str, tmp_path: Path) -> None:
    source = huggingface(tmp_path / "source")
    spoil(source)
    with pytest.raises(ConversionError, match=reason):
        convert(source, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_cut_model_bin_is_named_wherever_it_is_cut(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    source = ctranslate2(folder / "source")
    whole = (source / "model.bin").read_bytes()
    # The aliases at the end carry no weights: a cut there leaves the tensors whole.
    size = data.draw(st.integers(0, len(whole) - 200))
    (source / "model.bin").write_bytes(whole[:size])
    with pytest.raises(ConversionError, match="cut short|missing|version"):
        convert(source, folder / "bundle")


def test_an_index_may_not_name_files_elsewhere(tmp_path: Path) -> None:
    source = huggingface(tmp_path / "source", shards=2)
    index = source / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "../../secret.safetensors"}}))
    with pytest.raises(ConversionError, match="outside"):
        convert(source, tmp_path / "bundle")


def test_another_version_of_the_format_is_named(tmp_path: Path) -> None:
    source = ctranslate2(tmp_path / "source")
    data = (source / "model.bin").read_bytes()
    (source / "model.bin").write_bytes(struct.pack("<I", 5) + data[4:])
    with pytest.raises(ConversionError, match="version 5, not 6"):
        convert(source, tmp_path / "bundle")


def test_does_not_write_over_a_bundle(tmp_path: Path) -> None:
    source = huggingface(tmp_path / "source")
    convert(source, tmp_path / "bundle")
    with pytest.raises(BundleError, match="already exists"):
        convert(source, tmp_path / "bundle")
