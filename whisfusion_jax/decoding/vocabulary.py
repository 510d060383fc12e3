"""Which tokens may be written, and which of them is the likeliest."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from whisfusion_jax.config import TokenRules
from whisfusion_jax.models.output import arg_max


@dataclass(frozen=True)
class Vocabulary:
    """What decoding must know of the tokens; static, so part of a compiled program's key."""

    rules: TokenRules
    end: int
    """The end token, which fills rows behind the text."""
    no_speech: int | None = None
    """The token whose probability is asked before the text; None asks nothing."""
    languages: tuple[int, ...] = ()
    """Of the language tokens; none for English-only models."""
    before: int = 0
    """Tokens of an earlier text that prompts have in front of the start token."""

    def allowed(self, logits: jax.Array, first: bool | jax.Array) -> jax.Array:
        """Logits with the suppressed tokens at minus infinity.

        Args:
            logits: [..., vocabulary].
            first: whether a position is the text's first, [...] or for all.
        """
        banned, at_first = np.zeros((2, logits.shape[-1]), bool)
        banned[list(self.rules.suppress)] = True
        at_first[list(self.rules.suppress_first)] = True
        if not self.rules.suppress_first or first is False:
            return jnp.where(banned, -jnp.inf, logits)
        return jnp.where(banned | (jnp.asarray(first)[..., None] & at_first), -jnp.inf, logits)

    def share_of_no_speech(self, logits: jax.Array) -> jax.Array:
        """Probability of the no-speech token; NaN where it isn't asked.

        Args:
            logits: [batch, vocabulary], behind the start token.
        """
        if self.no_speech is None:
            return jnp.full(len(logits), jnp.nan)
        return jax.nn.softmax(logits)[:, self.no_speech]

    def with_language(self, prompt: jax.Array, logits: jax.Array) -> jax.Array:
        """Prompts with the language that is heard, where they name none.

        Args:
            prompt: [batch, p] int32: -1 where the language is to be heard.
            logits: [batch, vocabulary], behind the start token.
        """
        if not self.languages:
            return prompt
        languages = jnp.array(self.languages, jnp.int32)
        heard = languages[logits[:, languages].argmax(-1)]
        named = self.language_of(prompt)
        return prompt.at[:, self.before + 1].set(jnp.where(named < 0, heard, named))

    def language_of(self, prompt: jax.Array) -> jax.Array:
        """[batch, p] to [batch] int32: the language token; -1 where prompts name none."""
        named = prompt.shape[1] - self.before > 2
        return prompt[:, self.before + 1] if named else jnp.full(len(prompt), -1, jnp.int32)


def likeliest(logits: jax.Array) -> tuple[jax.Array, jax.Array]:
    """[..., vocabulary] to the arg-max [...] int32 and its log-probability [...]."""
    return arg_max(logits), logits.max(-1) - jax.nn.logsumexp(logits, axis=-1)
