"""What a batch costs a CTC head: its texts, wherever in the audio their tokens are."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax

from whisfusion_jax.data.batches import Batch
from whisfusion_jax.diffusion.objective import Targets, sample_vocabulary
from whisfusion_jax.models.ctc import CtcHead
from whisfusion_jax.models.encoder import AudioStates
from whisfusion_jax.training.loss import Metrics

_SPAN = 10
"""Frames that are hidden together: a fifth of a second."""
_IMPOSSIBLE = 1e4
"""More than any text costs that fits into its frames."""


@dataclass(frozen=True)
class Hearing:
    """What the loss depends on beside shapes."""

    hidden: float = 0.1
    """Share of the frames that are hidden, so that a moment is heard from around it."""
    sample: int | None = None
    """Names that the softmax is over; None is all."""

    def __call__(
        self, head: CtcHead, audio: AudioStates, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, Metrics]:
        """Mean loss a token: the negative log-probability of all ways to say the text."""
        hiding, sampling = jax.random.split(key)
        # The padding memory's states stand behind the audio's.
        states = audio.states[:, : batch.frames]
        rows, frames, _ = states.shape
        kept = jax.random.bernoulli(hiding, 1 - self.hidden, (rows, -(-frames // _SPAN), 1))
        moments = head.moments(states * jnp.repeat(kept, _SPAN, axis=1)[:, :frames])
        lengths = jnp.asarray(batch.targets.lengths)
        labels = head.numbers(jnp.asarray(batch.targets.tokens))
        names, bias = None, jnp.zeros(())
        if self.sample is not None:
            # The blank, number 0, is in every sample.
            others = Targets(jnp.maximum(labels - 1, 0), lengths)
            drawn = sample_vocabulary(sampling, others, len(head.names[...]) - 1, self.sample)
            names, bias = jnp.pad(drawn.tokens + 1, (1, 0)), jnp.pad(drawn.bias, (1, 0))
            labels = jnp.asarray(drawn.targets.tokens) + 1
        logits = head.scores(moments, names) + bias
        # All but the end token.
        behind = jnp.arange(labels.shape[1]) >= lengths[:, None] - 1
        each = optax.ctc_loss(
            logits, jnp.zeros(logits.shape[:2]), labels, behind.astype(jnp.float32)
        )
        fits = each < _IMPOSSIBLE
        said = jnp.where(fits, lengths - 1, 0).sum()
        return jnp.where(fits, each, 0).sum() / jnp.maximum(said, 1), {"fits": fits.mean()}
