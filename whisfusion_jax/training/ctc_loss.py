"""What a batch costs a CTC head: its texts, wherever in the audio their pieces are."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax

from whisfusion_jax.data.batches import Batch
from whisfusion_jax.models.ctc import CtcHead
from whisfusion_jax.models.encoder import AudioStates
from whisfusion_jax.training.loss import Metrics

HIDDEN = 0.1
"""Share of the frames that a head doesn't hear in training."""
_SPAN = 10
"""Frames that are hidden together: a fifth of a second."""
_IMPOSSIBLE = 1e4
"""More than any text costs that fits into its frames."""


def hidden_spans(key: jax.Array, states: jax.Array, share: float = HIDDEN) -> jax.Array:
    """States, [batch, frames, width], of which a share, in short spans, is zero."""
    rows, frames, _ = states.shape
    kept = jax.random.bernoulli(key, 1 - share, (rows, -(-frames // _SPAN), 1))
    return states * jnp.repeat(kept, _SPAN, axis=1)[:, :frames]


@dataclass(frozen=True)
class CtcLoss:
    """What the loss depends on beside shapes."""

    hidden: float = HIDDEN
    """Share of the frames that are hidden, so that a moment is heard from around it."""

    def __call__(
        self, head: CtcHead, audio: AudioStates, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, Metrics]:
        """Mean loss a piece: the negative log-probability of all ways to say the text."""
        # The padding memory's states stand behind the audio's.
        states = audio.without_memory()
        scores = head(hidden_spans(key, states, self.hidden))
        # The blank's score comes first, and a text's last token is its end.
        labels = 1 + jnp.asarray(batch.targets.tokens)
        said = jnp.asarray(batch.targets.lengths) - 1
        behind = jnp.arange(labels.shape[1]) >= said[:, None]
        each = optax.ctc_loss(
            scores, jnp.zeros(scores.shape[:2]), labels, behind.astype(jnp.float32)
        )
        fits = each < _IMPOSSIBLE
        count = jnp.where(fits, said, 0).sum()
        return jnp.where(fits, each, 0).sum() / jnp.maximum(count, 1), {"fits": fits.mean()}
