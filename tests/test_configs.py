"""The configs of configs/ build, and hold what they promise."""

from pathlib import Path

import pytest
from flax import nnx

from whisfusion_jax.config import WHISPER_SIZES, read_config
from whisfusion_jax.models.denoiser import Denoiser
from whisfusion_jax.training.setup import make_optimizer, step_settings

CONFIGS = sorted((Path(__file__).parent.parent / "configs").glob("*.py"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_builds_all_that_a_run_needs(path: Path) -> None:
    config = read_config(path)
    make_optimizer(config.optimizer, config.steps)
    assert all(callable(step_settings(config, phase).loss) for phase in config.phases)
    assert config.bundle in (*WHISPER_SIZES, "bundles/canary-1b-flash", "bundles/parakeet-ctc-1.1b")


def test_the_large_one_has_the_papers_size() -> None:
    config = read_config(CONFIGS[0].parent / "whisfusion_large_v3.py")
    sizes = config.denoiser
    assert sizes is not None
    assert sizes.audio_width == WHISPER_SIZES[config.bundle].width
    state = nnx.state(nnx.eval_shape(lambda: Denoiser(sizes, rngs=nnx.Rngs(0))))
    parameters = sum(variable.size for _, variable in nnx.to_flat_state(state))
    assert parameters == pytest.approx(486e6, rel=0.01)
