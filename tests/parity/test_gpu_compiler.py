"""Programs compiled for GPUs that are not here, by XLA itself (`make test-parity` installs it)."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.parallel.launch import ROOT

pytestmark = pytest.mark.parity

COMPILER = Path(sys.prefix) / "gpu"


def report(*flags: str, config: str | None = "configs/tiny_en_from_scratch.py") -> str:
    of = ("--config", config) if config else ()
    return run("-m", "tools.compile_report", *of, *flags)


def run(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT, capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(COMPILER)},
    )  # fmt: skip
    return done.stdout


@pytest.mark.parametrize("topology", ["h100:1", "a100:2x4"])
def test_exact_decoding_compiles(topology: str) -> None:
    found = report("--topology", topology, "--what", "exact", "--audios", "1")
    assert "of 80.00 GB" in found


def test_products_in_cudnn_are_counted() -> None:
    program = """
import jax, jax.numpy as jnp
from tools.compile_report.products import work_of
from whisfusion_jax.models.layers import attend
shapes = [jax.ShapeDtypeStruct((2, 6, n, 64), jnp.bfloat16) for n in (392, 824, 824)]
learn = jax.grad(lambda *each: attend(*each).astype(jnp.float32).sum(), argnums=(0, 1, 2))
one = 2 * 2 * 6 * 392 * 824 * 64
for how, platform in ((attend, "cuda"), (attend, "cpu"), (learn, "cuda")):
    print(work_of(jax.make_jaxpr(how)(*shapes), platform).once.flops / one)
"""
    assert run("-c", program).split() == ["2.0", "2.0", "7.0"]


@pytest.mark.parametrize("what", ["ar", "exact", "diffusion"])
def test_real_weights_compile(what: str) -> None:
    flags = "--topology", "h100:1", "--what", what, "--audios", "4"
    found = report("--bundle", "tiny.en", *flags, config=None)
    assert "a pass of a loop" in found


@pytest.mark.parametrize("keys", [824, 825])
def test_attention_learns_from_any_number_of_keys(keys: int) -> None:
    program = f"""
import jax, jax.numpy as jnp
from tools.compile_report.topology import devices_of
from whisfusion_jax.models.layers import attend
here = jax.sharding.SingleDeviceSharding(devices_of("h100:1")[0])
shapes = [jax.ShapeDtypeStruct((2, 6, n, 64), jnp.bfloat16, sharding=here)
          for n in (392, {keys}, {keys})]
learn = jax.jit(jax.grad(lambda *each: attend(*each).astype(jnp.float32).sum(), argnums=(0, 1, 2)))
print(learn.lower(*shapes).compile({{"xla_gpu_enable_triton_gemm": False}}).as_text())
"""
    found = run("-c", program)
    assert ("cudnn$fmha" in found) == (keys % 2 == 0)  # of odd ones it makes no gradients


def test_an_encoder_never_holds_all_scores() -> None:
    found = report("--topology", "h100:1", "--what", "hear", "--audios", "16")
    # 16 windows, 6 heads, 1500 x 1500 scores of 4 bytes would be 0.86 GB.
    temporaries = next(line for line in found.splitlines() if "temporaries" in line)
    assert float(temporaries.split("│")[2].split()[0]) < 0.4
    assert "attention by cuDNN" in found
