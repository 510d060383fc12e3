from pathlib import Path

import jax
import numpy as np
import pytest

from whisfusion_jax.storage import in_eight_bits, load_tensors, save_tensors


@pytest.mark.parametrize("name", ["block.kernel", "embedding"])
def test_eight_bits_lose_half_a_step_at_most(name: str, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    weights = random.normal(size=(30, 8)) * np.exp(random.normal(size=(30, 8)))
    weights[:, 3] = 0  # a column of a kernel, or part of each row, that is all zero
    stored = in_eight_bits(name, weights.astype(np.float32))
    assert stored[name].dtype == np.int8
    save_tensors(tmp_path / "packed", stored, packed=True)
    target = {name: jax.ShapeDtypeStruct(weights.shape, np.float32)}
    found = np.asarray(load_tensors(tmp_path / "packed", target)[name])
    axis = 1 if name == "embedding" else 0
    half = np.abs(weights).max(axis, keepdims=True) / 127 / 2
    assert (np.abs(found - weights) <= half * 1.001 + 1e-9).all()


def test_vectors_are_kept_in_half_precision(tmp_path: Path) -> None:
    scale = np.linspace(0.5, 2, 7, dtype=np.float32)
    save_tensors(tmp_path / "packed", in_eight_bits("norm.scale", scale), packed=True)
    target = {"norm.scale": jax.ShapeDtypeStruct((7,), np.float32)}
    found = load_tensors(tmp_path / "packed", target)["norm.scale"]
    np.testing.assert_allclose(found, scale, rtol=1e-3)
