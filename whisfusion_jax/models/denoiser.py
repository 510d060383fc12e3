"""The masked-diffusion decoder: a canvas with masked tokens to what stands under the masks.

Two kinds of one module tree. *Warm*: Whisper's decoder with all its weights, its outputs still one
ahead of its inputs. Masked positions, and the prompt's end, have low-rank adapters on every layer;
these alone are trained. Positions whose output names a masked token look both ways, all others back
only, as Whisper's do. Or, `both_ways`, every position sees all others and all weights are trained:
MDM-ASR's, which can mend what is visible. *From scratch*: Whisfusion's Transformer (RMSNorm, rotary
positions, SwiGLU, tied embeddings), every position seeing all others.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from whisfusion_jax.config import DenoiserConfig
from whisfusion_jax.errors import WhisfusionError
from whisfusion_jax.models.decoder import Cache, CrossCache, Decoder, cross_cache, write
from whisfusion_jax.models.encoder import AudioStates
from whisfusion_jax.models.layers import (
    Adapter,
    Attention,
    FeedForward,
    GatedFeedForward,
    KeysValues,
    Linear,
    layer_norm,
)
from whisfusion_jax.models.output import scores
from whisfusion_jax.models.stack import through
from whisfusion_jax.models.tiles import in_tiles, tiles_pay, times_tiles

LEARNED = ("mask", r".*\.ahead", r".*\.adapter\.(down|up)")
"""Names of what a warm denoiser adds to Whisper's weights, as patterns; only these are trained."""
LEARNED_BOTH_WAYS = (r"mask", r"positions", r"blocks\..*", r"(embedding_)?norm\..*")
"""Where every position sees all others: all but the embeddings, which name tokens as before."""

_OF_AUDIO = ("cross_attention", "key"), ("cross_attention", "value")
"""Layers that read all frames, once."""

AHEAD, AHEAD_BOTH_WAYS = -4.0, -8.0
"""Added at first to a warm denoiser's attention scores for tokens ahead, by kind. Whisper's decoder
never saw these; each head learns how much they are worth. Where all positions see all, masks among
them, -4 lets in so much that Whisper's own reading is lost at the start."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _View:
    """What n queries of each canvas are, and where they look."""

    adapted: jax.Array | None
    """[batch, canvases, n, 1]: True where adapters count; None is nowhere."""
    sight: jax.Array | None
    """[batch * canvases, 1, n, positions]: True where a query may look; None is everywhere."""
    ahead: jax.Array | None
    """Likewise: True where a query looks ahead; None is nowhere."""


class DenoiserBlock(nnx.Module):
    """Self-attention over the canvas both ways, cross-attention on the audio, feed-forward."""

    def __init__(self, config: DenoiserConfig, *, rngs: nnx.Rngs) -> None:
        width, heads, warm, rank = config.width, config.heads, config.warm, config.rank
        self.adapts = rank > 0

        def norm() -> nnx.Module:
            return layer_norm(width, rngs) if warm else nnx.RMSNorm(width, rngs=rngs)

        self.attention_norm = norm()
        self.attention = Attention(width, heads, bias=warm, rotary=not warm, rank=rank, rngs=rngs)
        if warm:
            self.ahead = nnx.Param(jnp.full((heads, 1, 1), AHEAD, jnp.float32))
        self.cross_norm = norm()
        self.cross_attention = Attention(
            width, heads, source_width=config.audio_width, shared_heads=config.shared_heads,
            bias=warm, rank=rank, rngs=rngs,
        )  # fmt: skip
        self.mlp_norm = norm()
        self.mlp = (
            FeedForward(width, config.hidden, config.kind.relu, rngs=rngs)
            if warm
            else GatedFeedForward(width, config.hidden, rngs=rngs)
        )
        if rank:
            # As much wider as the layer itself is.
            self.adapter = Adapter(width, 4 * rank, width, bent=True, rngs=rngs)

    def __call__(
        self,
        x: jax.Array,
        view: _View,
        cross: KeysValues,
        cross_bias: jax.Array | None,
        before: tuple[KeysValues, jax.Array] | None = None,
    ) -> tuple[jax.Array, KeysValues]:
        """[batch, canvases, n, width] to the same, and self-attention's keys and values.

        Args:
            cross: each [batch, heads, positions, features].
            before: keys and values of the whole canvas, [batch * canvases, heads, positions,
                features], with those before the queries right, and where the queries start.
        """
        batch, canvases, n, _ = x.shape

        def shaped(rows: int, each: jax.Array | None) -> jax.Array | None:
            return None if each is None else each.reshape(rows, batch * canvases * n // rows, -1)

        rows, adapted = x.reshape(batch * canvases, n, -1), shaped(batch * canvases, view.adapted)
        normed = self.attention_norm(rows)
        attended = self.attention.keys_values(normed, adapted)
        if before is not None:
            cached, start = before
            attended = write(cached, attended, start)
        bias = None if view.ahead is None else jnp.where(view.ahead, self.ahead[...], 0.0)
        rows = rows + self.attention(normed, attended, bias=bias, mask=view.sight, adapted=adapted)
        # An audio's canvases stand side by side as more queries: they share keys and values.
        rows, adapted = rows.reshape(batch, canvases * n, -1), shaped(batch, view.adapted)
        normed = self.cross_norm(rows)
        rows = rows + self.cross_attention(normed, cross, bias=cross_bias, adapted=adapted)
        normed = self.mlp_norm(rows)
        rows = rows + self.mlp(normed)
        if self.adapts and adapted is not None:
            rows = rows + self.adapter(normed, adapted)
        return rows.reshape(x.shape), attended


class Denoiser(nnx.Module):
    """Token embeddings, bidirectional blocks, and logits tied to the embeddings."""

    def __init__(self, config: DenoiserConfig, *, rngs: nnx.Rngs) -> None:
        normal = nnx.initializers.normal(0.02)
        self.warm, self.both_ways = config.warm, config.sees_all
        self.embedding = nnx.Param(normal(rngs.params(), (config.vocabulary, config.width)))
        self.mask = nnx.Param(normal(rngs.params(), (config.width,)))
        """Embedding of a masked position; exists on the input side only."""
        self.tiles: nnx.Variable[jax.Array] | None = nnx.data(None)
        """The embeddings once more, for CPUs (`read_in_tiles`)."""
        kind = config.kind
        if config.warm:
            self.positions = nnx.Param(normal(rngs.params(), (config.positions, config.width)))
        self.embedding_norm = layer_norm(config.width, rngs) if kind.normed_embedding else None
        self.output_bias = nnx.Param(jnp.zeros(config.vocabulary)) if kind.output_bias else None
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
        return cross_cache(self.blocks, audio)

    def __call__(
        self, prompt: jax.Array, canvas: jax.Array, audio: CrossCache | AudioStates
    ) -> jax.Array:
        """One pass over all canvases.

        Args:
            prompt: [batch, p] int32: start, language and task tokens, visible to every canvas.
            canvas: [batch, canvases, n] int32; `mask_token` where masked.
            audio: its keys and values, or the states, from which each block makes them when it is
                its turn: in training, where they are needed once.

        Returns:
            hidden states [batch, canvases, n, width]; entry i is for canvas position i (see
            `logits`).
        """
        batch, canvases, n = canvas.shape
        prompts = jnp.broadcast_to(prompt[:, None], (batch, canvases, prompt.shape[1]))
        tokens = jnp.concatenate([prompts, canvas], axis=-1)
        masked, at = tokens == self.mask_token, jnp.arange(tokens.shape[-1])[None, None]
        counted = audio.counted(at) if isinstance(audio, CrossCache) else at
        x = self.embed(tokens, counted)
        if self.warm:
            if self.both_ways:
                view = _View(masked[..., None], None, at[..., None, :] > at[..., None])
            else:
                held = audio.held(at, at.shape[-1]) if isinstance(audio, CrossCache) else True
                view = _view(masked, at, tokens.shape[-1], prompt.shape[1], held)
        else:
            view = _View(masked[..., None], None, None)
        if isinstance(audio, CrossCache):
            for block, cross in zip(self.blocks, audio.layers, strict=True):
                x, _ = block(x, view, cross, audio.bias)
        else:

            def call(block: DenoiserBlock, x: jax.Array) -> jax.Array:
                cross = block.cross_attention.keys_values(audio.states)
                return block(x, view, cross, audio.bias)[0]

            x = through(self.blocks, call, x)
        # Whisper's outputs name the token after their position.
        first = prompt.shape[1] - self.warm
        return self.norm(x[:, :, first : first + n])

    def empty_cache(self, rows: int, length: int) -> Cache:
        """Room for the self-attention of `length` positions in so many canvases."""
        attention = self.blocks[0].attention
        features = self.mask.shape[0] // attention.heads
        zeros = jnp.zeros((rows, attention.heads, length, features), self.mask.dtype)
        return tuple((zeros, zeros) for _ in self.blocks)

    def stretch(
        self,
        tokens: jax.Array,
        start: jax.Array,
        size: int,
        prompt: int,
        end: int,
        cross: CrossCache,
        cache: Cache,
        mended: bool | None = None,
        masks: bool = True,
    ) -> tuple[jax.Array, Cache]:
        """One pass of a warm denoiser over a stretch of each canvas, the rest from a cache.

        The same as the whole pass, if positions before the stretch have been in an earlier one
        when they, and the ones after them, were known, and nothing is known behind the stretch.

        Args:
            tokens: [batch, canvases, positions] int32: prompt and canvas, and any behind `end`.
            start: [batch, canvases] int32: each stretch's first position.
            size: positions of a stretch; must fit behind every start.
            prompt: positions of the prompt.
            end: positions of prompt and canvas.
            mended: whether the prompt's end has its adapters; None is if its next is masked.
            masks: whether what masks say is asked for; else all is read as Whisper reads it.

        Returns:
            hidden states [batch, canvases, size, width], entry i for the token that stands at
            `start + i + 1`, and the cache with the stretch written to it.
        """
        at = start[..., None] + jnp.arange(size)
        limit = jnp.minimum(start + size, end)[..., None]
        held = cross.held(at, tokens.shape[-1])
        if masks or mended:
            view = _view(tokens == self.mask_token, at, limit, prompt, held, mended)
        else:
            behind = (jnp.arange(tokens.shape[-1]) <= at[..., None]) & held
            view = _View(None, behind.reshape(-1, 1, *behind.shape[2:]), None)
        x = self.embed(jnp.take_along_axis(tokens, at, axis=-1), cross.counted(at))
        return self._through(x, view, cross, cache, start.ravel())

    def _through(
        self, x: jax.Array, view: _View, cross: CrossCache, cache: Cache, start: jax.Array
    ) -> tuple[jax.Array, Cache]:
        """[batch, canvases, n, width] through all blocks, and the cache with what they wrote.

        Args:
            start: where: a place, or one for each canvas.
        """
        written = []
        for block, audio, before in zip(self.blocks, cross.layers, cache, strict=True):
            x, attended = block(x, view, audio, cross.bias, (before, start))
            written.append(attended)
        return self.norm(x), tuple(written)

    def read_in_tiles(self) -> None:
        """Keep what few positions are multiplied by once more; worth its memory on a CPU."""
        for path, module in nnx.iter_modules(self.blocks):
            if isinstance(module, Linear) and path[-2:] not in _OF_AUDIO:
                module.read_in_tiles()
        self.tiles = nnx.Variable(in_tiles(self.embedding[...].T))

    def read(
        self, tokens: jax.Array, cache: Cache, position: jax.Array | int, cross: CrossCache
    ) -> tuple[jax.Array, Cache]:
        """[rows, n] to hidden states [rows, n, width], as Whisper's decoder reads (`Decoder`)."""
        position, room = jnp.asarray(position), cache[0][0].shape[2]
        at = position + jnp.arange(tokens.shape[1])
        view = _View(None, cross.behind(at, room), None)
        x = self.embed(tokens, cross.counted(at))
        hidden, cache = self._through(x[:, None], view, cross, cache, position)
        return hidden[:, 0], cache

    def embed(self, tokens: jax.Array, at: jax.Array) -> jax.Array:
        """Tokens, `mask_token` among them, to the first block's input, [..., width].

        Args:
            tokens: [..., n] int32.
            at: [..., n] int32: their positions, of which the kind from scratch knows nothing yet.
        """
        masked = tokens == self.mask_token
        known = self.embedding[jnp.where(masked, 0, tokens)]
        x = jnp.where(masked[..., None], self.mask[...], known)
        if self.warm:
            x = x + self.positions[at]
        return x if self.embedding_norm is None else self.embedding_norm(x)

    def logits(self, hidden: jax.Array, tokens: jax.Array | None = None) -> jax.Array:
        """[..., width] to [..., vocabulary] float32; or to scores of some tokens alone."""
        if tokens is None and self.tiles is not None and tiles_pay(hidden):
            logits = times_tiles(hidden, self.tiles[...], len(self.embedding[...]))
        else:
            which = slice(None) if tokens is None else tokens
            logits = scores(hidden, self.embedding[which])
        if self.output_bias is None:
            return logits
        return logits + (self.output_bias[...] if tokens is None else self.output_bias[tokens])


def _view(
    masked: jax.Array,
    at: jax.Array,
    limit: jax.Array | int,
    prompt: int,
    held: jax.Array | bool,
    mended: bool | None = None,
) -> _View:
    """How a warm denoiser's queries look: all back, and those that are asked at known tokens ahead.

    A position is asked if it or the next one, which its output names, is masked. So a beginning
    without masks is read as Whisper reads it and never changes, and Whisper itself names the first
    mask behind it. But a text's first token is named by the prompt's end with its adapters: there
    training can mend what Whisper mishears. A mask ahead holds nothing to see; as none is seen, a
    canvas's length changes no text.

    Args:
        masked: [batch, canvases, positions].
        at: [batch, canvases, n]: the queries' positions; 1 for a dimension where all are alike.
        limit: positions from here on are not there.
        prompt: positions of the prompt.
        held: which positions hold anything (`CrossCache.held`).
        mended: whether the prompt's end has its adapters; None is if its next is masked.
    """
    at = jnp.broadcast_to(at, (*masked.shape[:2], at.shape[-1]))
    keys = jnp.arange(masked.shape[-1])
    next_masked = jnp.pad(masked[..., 1:], ((0, 0), (0, 0), (0, 1)))
    mends = next_masked if mended is None else mended
    adapted = masked | (mends & (keys == prompt - 1))
    asked, adapted = (
        jnp.take_along_axis(each, at, axis=-1)[..., None]
        for each in (masked | next_masked, adapted)
    )
    ahead = keys > at[..., None]
    known = ~masked & (keys < limit)
    sight = (~ahead | (asked & known[..., None, :])) & held
    by_row = (-1, 1, *sight.shape[2:])
    return _View(adapted, sight.reshape(by_row), ahead.reshape(by_row))


def warm_denoiser(
    decoder: Decoder, config: DenoiserConfig, shortlist: jax.Array | np.ndarray, seed: int = 0
) -> Denoiser:
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
    if decoder.output_bias is not None:
        own["output_bias"] = decoder.output_bias[shortlist]
    ahead = AHEAD_BOTH_WAYS if config.both_ways else AHEAD
    for number, (path, variable) in enumerate(nnx.to_flat_state(state)):
        if path[-1] == "ahead":
            value = jnp.full(variable.shape, ahead, jnp.float32)
        elif path[-2:] == ("adapter", "up"):
            value = jnp.zeros(variable.shape)
        elif path[-2:] == ("adapter", "down"):
            key = jax.random.fold_in(jax.random.key(seed), number)
            value = jax.random.normal(key, variable.shape) * variable.shape[0] ** -0.5
        else:
            value = own[path[0]] if path[0] in own else weights[path][...]
        variable.set_value(value)
    return nnx.merge(graph, state)


def untrained_denoiser(config: DenoiserConfig, dtype: DTypeLike = jnp.float32) -> Denoiser:
    """A denoiser of the warm kind whose weights are all zero, to be put `on_decoder`."""
    denoiser = nnx.eval_shape(lambda: Denoiser(config, rngs=nnx.Rngs(0)))
    graph, state = nnx.split(denoiser)
    return nnx.merge(graph, jax.tree.map(lambda each: jnp.zeros(each.shape, dtype), state))


def on_decoder(denoiser: Denoiser, decoder: Decoder) -> Denoiser:
    """A warm denoiser on the weights of the decoder it came from: the very same arrays.

    So both together are hardly larger than one. It counts tokens as the decoder does.

    Raises:
        WhisfusionError: the denoiser is not of the warm kind, or was made for another Whisper.
    """
    reads = denoiser.blocks[0].cross_attention.key.kernel.shape[0]
    layers = len(denoiser.blocks), len(decoder.blocks)
    if not denoiser.warm or reads != decoder.positions.shape[1] or layers[0] != layers[1]:
        raise WhisfusionError("the denoiser that is to draft was made for another Whisper")
    weights = dict(nnx.to_flat_state(nnx.state(decoder)))
    graph, state = nnx.split(denoiser)
    for path, variable in nnx.to_flat_state(state):
        if path in weights:
            variable.set_value(weights[path][...])
    return nnx.merge(graph, state)
