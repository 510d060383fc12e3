"""All three decoders on one device, on four, and exact on two pairs that share arithmetic."""

import json

import pytest

from tests.parallel.decode import Found
from tests.parallel.launch import launch
from tests.support import TINY, random_bundle, random_denoising_bundle
from whisfusion_jax.audio.read import read_audio
from whisfusion_jax.bundle import Bundle
from whisfusion_jax.conversion.memory import add_memory
from whisfusion_jax.hub import CLIPS


@pytest.fixture(scope="module")
def decoded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Found]:
    folder = tmp_path_factory.mktemp("spread")
    whisper = random_bundle(folder / "whisper", TINY)
    add_memory(whisper, [read_audio(clip) for clip in sorted(CLIPS.glob("*.wav"))])
    denoising = random_denoising_bundle(Bundle.open(whisper.path), folder / "denoising")
    paths = str(whisper.path), str(denoising.path)
    process = launch("-m", "tests.parallel.decode", *paths, devices=4)
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 0, said
    return json.loads(said.splitlines()[-1])


@pytest.mark.parametrize("decoder", ["ar", "exact", "diffusion"])
def test_the_mesh_changes_no_text(decoded: dict[str, Found], decoder: str) -> None:
    expected, *others = decoded[decoder].values()
    assert len({likelihood for *_, likelihood in expected}) == 3  # the last one comes twice
    for found in others:
        for (*written, likelihood), (*right, likely) in zip(found, expected, strict=True):
            assert written == right
            assert likelihood == pytest.approx(likely, abs=1e-4)
