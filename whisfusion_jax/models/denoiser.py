"""The masked-diffusion decoder: a canvas with masked tokens to what stands under the masks.

Two kinds of one module tree. *Warm*: Whisper's decoder with the causal mask taken away, all its
weights kept, and its outputs still one ahead of its inputs. *From scratch*: Whisfusion's
Transformer (RMSNorm, rotary positions, SwiGLU, tied embeddings).
"""

import jax
import jax.numpy as jnp
from flax import nnx

from whisfusion_jax.config import DenoiserConfig
from whisfusion_jax.models.decoder import CrossCache, Decoder
from whisfusion_jax.models.encoder import AudioStates
from whisfusion_jax.models.layers import (
    Attention,
    FeedForward,
    GatedFeedForward,
    KeysValues,
    layer_norm,
)

AHEAD = -8.0
"""What a warm denoiser starts with in its attention scores for positions ahead. Whisper's decoder
never saw these. Started at 0 it writes no sense at all; started so, left-to-right unmasking gives
Whisper's text before any training, and the model learns to look ahead from there."""
_AHEAD_UNIT = 16.0
"""The stored parameter is that many times smaller: under Adam it then moves as much faster."""


class DenoiserBlock(nnx.Module):
    """Self-attention over the canvas both ways, cross-attention on the audio, feed-forward."""

    def __init__(self, config: DenoiserConfig, *, rngs: nnx.Rngs) -> None:
        width, heads, warm = config.width, config.heads, config.warm

        def norm() -> nnx.Module:
            return layer_norm(width, rngs) if warm else nnx.RMSNorm(width, rngs=rngs)

        self.attention_norm = norm()
        self.attention = Attention(width, heads, bias=warm, rotary=not warm, rngs=rngs)
        self.ahead = nnx.Param(jnp.full((heads, 1, 1), AHEAD / _AHEAD_UNIT if warm else 0.0))
        self.cross_norm = norm()
        self.cross_attention = Attention(
            width, heads, source_width=config.audio_width, shared_heads=config.shared_heads,
            bias=warm, rngs=rngs,
        )  # fmt: skip
        self.mlp_norm = norm()
        self.mlp = (
            FeedForward(width, rngs=rngs)
            if warm
            else GatedFeedForward(width, config.hidden, rngs=rngs)
        )

    def __call__(self, x: jax.Array, cross: KeysValues, cross_bias: jax.Array | None) -> jax.Array:
        """[batch, canvases, n, width] to the same; keys and values are [batch, heads, ...]."""
        batch, canvases, n, width = x.shape
        rows = x.reshape(batch * canvases, n, width)
        normed = self.attention_norm(rows)
        later = jnp.triu(jnp.ones((n, n), bool), 1)
        ahead = jnp.where(later, _AHEAD_UNIT * self.ahead[...], 0.0)
        rows = rows + self.attention(normed, self.attention.keys_values(normed), bias=ahead)
        # An audio's canvases stand side by side as more queries: they share keys and values.
        rows = rows.reshape(batch, canvases * n, width)
        rows = rows + self.cross_attention(self.cross_norm(rows), cross, bias=cross_bias)
        return (rows + self.mlp(self.mlp_norm(rows))).reshape(x.shape)


class Denoiser(nnx.Module):
    """Token embeddings, bidirectional blocks, and logits tied to the embeddings."""

    def __init__(self, config: DenoiserConfig, *, rngs: nnx.Rngs) -> None:
        normal = nnx.initializers.normal(0.02)
        self.warm = config.warm
        self.embedding = nnx.Param(normal(rngs.params(), (config.vocabulary, config.width)))
        self.mask = nnx.Param(normal(rngs.params(), (config.width,)))
        """Embedding of a masked position; exists on the input side only."""
        if config.warm:
            self.positions = nnx.Param(normal(rngs.params(), (config.positions, config.width)))
        self.blocks = nnx.List(DenoiserBlock(config, rngs=rngs) for _ in range(config.layers))
        self.norm = (
            layer_norm(config.width, rngs) if config.warm else nnx.RMSNorm(config.width, rngs=rngs)
        )

    @property
    def mask_token(self) -> int:
        """The id that stands for a masked position: the one behind the vocabulary."""
        return self.embedding.shape[0]

    def cross_cache(self, audio: AudioStates) -> CrossCache:
        """Every layer's cross-attention keys and values: once an utterance."""
        layers = tuple(block.cross_attention.keys_values(audio.states) for block in self.blocks)
        return CrossCache(layers, audio.bias)

    def __call__(self, prompt: jax.Array, canvas: jax.Array, cross: CrossCache) -> jax.Array:
        """One pass over all canvases.

        Args:
            prompt: [batch, p] int32: start, language and task tokens, visible to every canvas.
            canvas: [batch, canvases, n] int32; `mask_token` where masked.

        Returns:
            hidden states [batch, canvases, n, width]; entry i is for canvas position i (see
            `logits`).
        """
        batch, canvases, _ = canvas.shape
        prompts = jnp.broadcast_to(prompt[:, None], (batch, canvases, prompt.shape[1]))
        tokens = jnp.concatenate([prompts, canvas], axis=-1)
        masked = tokens == self.mask_token
        known = self.embedding[jnp.where(masked, 0, tokens)]
        x = jnp.where(masked[..., None], self.mask[...], known)
        if self.warm:
            x = x + self.positions[: tokens.shape[-1]]
        for block, audio in zip(self.blocks, cross.layers, strict=True):
            x = block(x, audio, cross.bias)
        # Whisper's outputs name the token after their position.
        first = prompt.shape[1] - self.warm
        return self.norm(x[:, :, first : first + canvas.shape[-1]])

    def logits(self, hidden: jax.Array) -> jax.Array:
        """[..., width] to [..., vocabulary] float32."""
        return jnp.matmul(hidden, self.embedding[...].T, preferred_element_type=jnp.float32)


def warm_denoiser(decoder: Decoder, config: DenoiserConfig, shortlist: jax.Array) -> Denoiser:
    """A denoiser with all of a Whisper decoder's weights.

    Args:
        config: of the warm kind and the decoder's sizes.
        shortlist: [vocabulary] int32: the decoder's token of each of the denoiser's.
    """
    denoiser = nnx.eval_shape(lambda: Denoiser(config, rngs=nnx.Rngs(0)))
    graph, state = nnx.split(denoiser)
    weights = dict(nnx.to_flat_state(nnx.state(decoder)))
    embedding = decoder.embedding[...]
    own = {"embedding": embedding[shortlist], "mask": embedding.mean(0)}
    for path, variable in nnx.to_flat_state(state):
        if path[-1] == "ahead":
            variable.set_value(jnp.full(variable.shape, AHEAD / _AHEAD_UNIT))
        else:
            variable.set_value(own[path[0]] if path[0] in own else weights[path][...])
    return nnx.merge(graph, state)
