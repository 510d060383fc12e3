"""Products are counted by the program: what is asked is arithmetic that one can do by hand."""

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from tools.compile_report.products import Products, Work, work_of

X = jnp.ones((8, 8), jnp.float32)
SQUARE = Products(2 * 8**3, 3 * 4 * 8**2)


def test_a_loop_whose_length_is_written_counts_so_often() -> None:
    def program(x: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, 5, lambda _, each: each @ x, x @ x)

    assert work_of(jax.make_jaxpr(program)(X)) == Work(SQUARE * 6)


def test_a_loop_that_ends_when_it_may_has_its_own_count_of_a_pass() -> None:
    def program(x: jax.Array) -> jax.Array:
        narrow = x.astype(jnp.bfloat16) @ x.astype(jnp.bfloat16)
        return jax.lax.while_loop(lambda each: each.sum() < 9, lambda each: each @ x, x) + narrow

    half = Products(SQUARE.flops, SQUARE.bytes / 2)

    assert work_of(jax.make_jaxpr(program)(X)) == Work(half, (SQUARE,))


def test_of_branches_the_dearest_counts() -> None:
    def program(x: jax.Array) -> jax.Array:
        return jax.lax.cond(x.sum() > 0, lambda: x @ x @ x, lambda: x @ x)

    assert work_of(jax.make_jaxpr(program)(X)) == Work(SQUARE * 2)


def test_of_platforms_their_own_counts() -> None:
    def program(x: jax.Array) -> jax.Array:
        return jax.lax.platform_dependent(x, tpu=lambda x: x @ x, default=lambda x: x + x)

    jaxpr = jax.make_jaxpr(program)(X)
    assert (work_of(jaxpr, "tpu"), work_of(jaxpr, "cuda")) == (Work(SQUARE), Work())


def test_what_is_written_for_one_device_counts_for_all() -> None:
    mesh = jax.sharding.AbstractMesh((4, 2), ("data", "model"))
    rows = PartitionSpec("data")
    program = jax.shard_map(
        lambda x, y: x @ y, mesh=mesh, in_specs=(rows, PartitionSpec()), out_specs=rows,
        axis_names={"data"},
    )  # fmt: skip
    found = work_of(jax.make_jaxpr(program)(X, X)).once
    assert found.flops == SQUARE.flops


def test_a_convolution_sums_over_its_kernel() -> None:
    sound, kernel = jnp.ones((2, 3, 10)), jnp.ones((5, 3, 4))
    found = work_of(jax.make_jaxpr(lambda s, k: jax.lax.conv(s, k, (1,), "VALID"))(sound, kernel))
    assert found.once.flops == 2 * (2 * 5 * 7) * (3 * 4)
