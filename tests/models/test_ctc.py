"""What a CTC head's moments say."""

import jax.numpy as jnp
import numpy as np
import pytest

from whisfusion_jax.config import CtcConfig
from whisfusion_jax.errors import WhisfusionError
from whisfusion_jax.models.ctc import BLANK, collapsed


def test_repetitions_and_blanks_go_and_the_surest_moment_counts() -> None:
    heard = jnp.array([[BLANK, 3, 3, BLANK, 3, 7, 7, 5], [BLANK] * 8, [1, 2] * 4])
    moments = jnp.tile(jnp.array([0.9, 0.1, 0.2, 0.3, 0.4, 0.6, 0.5, 0.7]), (3, 1))
    pieces, sure = collapsed(heard, moments)
    expected = [[3, 3, 7, 5, *[BLANK] * 4], [BLANK] * 8, [1, 2] * 4]
    np.testing.assert_array_equal(pieces, expected)
    np.testing.assert_allclose(sure[0, :4], [0.2, 0.4, 0.6, 0.7])
    np.testing.assert_allclose(sure[2], moments[2])


def test_a_head_that_spells_nothing_is_refused() -> None:
    with pytest.raises(WhisfusionError, match="200 pieces"):
        CtcConfig(width=32, heads=2, pieces=200)
