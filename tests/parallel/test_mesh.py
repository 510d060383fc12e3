"""Where rows and parameters lie."""

import itertools

import jax
import numpy as np
import pytest
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import AbstractMesh
from jax.sharding import PartitionSpec as P

from tests.support import TINY
from whisfusion_jax.bundle import abstract_whisper
from whisfusion_jax.config import DenoiserConfig, MeshConfig
from whisfusion_jax.errors import WhisfusionError
from whisfusion_jax.models.denoiser import Denoiser
from whisfusion_jax.models.stack import stacked
from whisfusion_jax.parallel.mesh import AXES, Share, make_mesh
from whisfusion_jax.parallel.sharding import name_of, spec_for

MESH = AbstractMesh((2, 2, 2), AXES)


@given(st.integers(1, 40), st.integers(1, 8), st.data())
def test_shares_make_up_the_batch(rows: int, shards: int, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, shards), max_size=3)))
    edges = [0, *cuts, shards]
    batch = np.arange(rows * shards)
    parts = [Share(*edge, shards).rows(batch) for edge in itertools.pairwise(edges)]
    np.testing.assert_array_equal(np.concatenate(parts), batch)


@pytest.mark.parametrize("config", [MeshConfig(data=2), MeshConfig(fsdp=3), MeshConfig(tensor=2)])
def test_a_mesh_that_does_not_fit_is_refused(config: MeshConfig) -> None:
    with pytest.raises(WhisfusionError, match="does not fit the 1 here"):
        make_mesh(config, jax.local_devices()[:1])


def test_an_axis_of_no_devices_is_refused() -> None:
    with pytest.raises(WhisfusionError, match="at least 1"):
        MeshConfig(fsdp=0)


def specs(state: nnx.State) -> dict[str, P]:
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {name_of(path): spec_for(name_of(path), leaf.shape, MESH) for path, leaf in leaves}


@pytest.mark.parametrize("warm", [True, False])
def test_every_matrix_of_every_model_is_spread_over_both_axes(warm: bool) -> None:
    sizes = DenoiserConfig(
        vocabulary=64, width=32, heads=4, layers=2, audio_width=32, hidden=64, warm=warm,
        rank=8 * warm,
    )  # fmt: skip
    denoiser = nnx.eval_shape(lambda: Denoiser(sizes, rngs=nnx.Rngs(0)))
    whole = {**specs(nnx.state(denoiser)), **specs(nnx.state(abstract_whisper(TINY)))}
    for name, spec in whole.items():
        if name.endswith("kernel"):
            assert {"fsdp", "tensor"} <= set(spec), name
        if name.endswith(("norm.scale", "norm.bias", "ahead")):
            assert spec == P(), name
    # A block's halves fit: what one spreads over `tensor` the next one sums over.
    assert whole["blocks.0.attention.query.kernel"] == P("fsdp", "tensor")
    assert whole["blocks.0.attention.out.kernel"] == P("tensor", "fsdp")
    assert whole["embedding"] == P("tensor", "fsdp")


def test_stacked_layers_are_spread_as_single_ones() -> None:
    sizes = DenoiserConfig(
        vocabulary=64, width=32, heads=4, layers=2, audio_width=32, hidden=64, warm=False
    )
    stack = nnx.eval_shape(lambda: stacked(Denoiser(sizes, rngs=nnx.Rngs(0)), "nothing"))
    assert specs(nnx.state(stack))["blocks.block.mlp.down.kernel"] == P(None, "tensor", "fsdp")


def test_dimensions_that_an_axis_does_not_divide_stay_whole() -> None:
    assert spec_for("embedding", (51_865, 384), MESH) == P(None, "fsdp")
    assert spec_for("encoder.conv1.kernel", (3, 80, 384), MESH) == P(None, "fsdp", "tensor")
