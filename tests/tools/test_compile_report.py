"""What a program would need on devices that are not here."""

import subprocess
import sys

import pytest

from tests.parallel.launch import ROOT
from tools.compile_report.collectives import Traffic, traffic_of

PROGRAM = """\
HloModule step

%body (state: (u32[], f32[8,4])) -> (u32[], f32[8,4]) {
  %one = u32[] constant(1)
  %state = (u32[], f32[8,4]) parameter(0)
  %count = u32[] get-tuple-element(%state), index=0
  %part = f32[8,4] get-tuple-element(%state), index=1
  %sum = f32[8,4] all-reduce(%part), channel_id=1, replica_groups=[2,4]<=[8], to_apply=%add
  %once = u32[] add(%count, %one)
  %twice = u32[] add(%once, %one)
  ROOT %next = (u32[], f32[8,4]) tuple(%twice, %sum)
}

%condition (state: (u32[], f32[8,4])) -> pred[] {
  %limit = u32[] constant(12)
  %state = (u32[], f32[8,4]) parameter(0)
  %count = u32[] get-tuple-element(%state), index=0
  ROOT %less = pred[] compare(%count, %limit), direction=LT
}

ENTRY %main (x: f32[8,4]) -> f32[8,4] {
  %x = f32[8,4] parameter(0)
  %loop = (u32[], f32[8,4]) while(%x), condition=%condition, body=%body
  %all = (bf16[2,4], bf16[16,4]) all-gather-start(%x), replica_groups={{0,1,2,3,4,5,6,7}}
  %both = (f32[8,4], bf16[4]) all-reduce(%x, %y), replica_groups={{0,1},{2,3}}, to_apply=%add
  ROOT %out = f32[8,4] get-tuple-element(%loop), index=1
}
"""


def test_collectives_are_counted_with_their_loops() -> None:
    assert traffic_of(PROGRAM) == [
        Traffic("all-gather", 1, 7 / 8 * 128, 128),
        Traffic("all-reduce", 7, 6 * 2 * 3 / 4 * 128 + 128 + 8, 128),
    ]


def report(*flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tools.compile_report", "--config",
         "configs/tiny_en_from_scratch.py", *flags],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip


@pytest.mark.parametrize("what", ["train", "hear", "ar", "exact", "diffusion"])
def test_a_report_is_made_for_devices_that_are_not_here(what: str) -> None:
    done = report("--topology", "cpu:8", "--mesh.fsdp", "4" if what == "train" else "1",
                  "--what", what, "--audios", "1")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "cpu:8, mesh 2x4x1" in done.stdout or "cpu:8, mesh 8x1x1" in done.stdout
    assert "peak memory, each chip" in done.stdout
    assert "products, all chips" in done.stdout
    # Decoders end when their texts do.
    assert ("a pass of a loop" in done.stdout) == (what in ("ar", "exact", "diffusion"))
    # The scale-out of decoding sends nothing.
    assert ("all-reduce" in done.stdout) == (what == "train")


def test_a_bundles_own_weights_or_a_configs_sizes_are_compiled() -> None:
    flags = "--topology", "cpu:2", "--what", "diffusion", "--audios", "1"
    done = report("--bundle", "tiny.en", *flags)
    assert (done.returncode, "name a --config or a --bundle" in done.stderr) == (2, True)


def test_a_topology_that_does_not_exist_is_named() -> None:
    done = report("--topology", "v9:1x1")
    assert done.returncode == 2
    assert "topology v9:1x1" in done.stderr
