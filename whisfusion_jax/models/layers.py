"""Layers that Whisper's encoder and decoder and the denoiser share."""

from functools import cache, partial

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import PartitionSpec as P

from whisfusion_jax.config import ROWS
from whisfusion_jax.models.tiles import in_tiles, tiles_pay, times_tiles

KeysValues = tuple[jax.Array, jax.Array]
"""Keys and values of one attention, each [batch, heads, positions, features]."""

_LONG = 256
"""Queries from which on heads are worth a loop."""


def attend(
    queries: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    bias: jax.Array | None = None,
    mask: jax.Array | None = None,
) -> jax.Array:
    """Softmax attention, scores and softmax in float32.

    Heads stand before positions, so that each head's matrices lie whole in memory: on a CPU much
    faster than `jax.nn.dot_product_attention` with heads behind (docs/design.md). Dividing by the
    softmax's sum after the second product rather than before spares one pass over the scores.

    Args:
        queries: [batch, heads, queries, features]; keys and values alike, over positions.
        bias: float32, added to the scores, broadcastable to [batch, heads, queries, positions].
        mask: True where a query may look, broadcastable likewise; every query somewhere.

    Returns:
        [batch, heads, queries, features].
    """
    if mask is None and (bias is None or bias.ndim == 1) and queries.shape[2] >= _LONG:

        def together(queries: jax.Array, keys: jax.Array, values: jax.Array) -> jax.Array:
            return _attend(queries, keys, values, bias, None)

        def head_by_head(*each: jax.Array) -> jax.Array:
            heads = tuple(array.reshape(-1, 1, 1, *array.shape[2:]) for array in each)
            mixed = jax.lax.map(lambda own: together(*own), heads)
            return mixed.reshape(each[0].shape)

        def by_cudnn(*each: jax.Array) -> jax.Array:
            q, k, v = (jnp.swapaxes(array, 1, 2) for array in each)
            shape = 1, 1, queries.shape[2], keys.shape[2]
            added = None if bias is None else jnp.broadcast_to(bias, shape).astype(queries.dtype)
            mixed = jax.nn.dot_product_attention(q, k, v, added, implementation="cudnn")
            return jnp.swapaxes(mixed, 1, 2)

        return jax.lax.platform_dependent(
            queries,
            keys,
            values,
            # A CPU's caches hold one head's scores and not those of all; cuDNN keeps none.
            cpu=head_by_head,
            cuda=by_cudnn if _fits_cudnn(queries, keys) else together,
            default=together,
        )
    return _attend(queries, keys, values, bias, mask)


def _fits_cudnn(queries: jax.Array, keys: jax.Array) -> bool:
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.manual_axes and mesh.auto_axes:
        return False  # cuDNN's partitioner knows of no mesh that is half the compiler's
    features = queries.shape[-1]
    narrow = queries.dtype in (jnp.bfloat16, jnp.float16)
    # Of an odd number it makes no gradients.
    even = queries.shape[2] % 2 == keys.shape[2] % 2 == 0
    return narrow and even and features % 8 == 0 and features <= 128 and _has_cudnn()


@cache
def _has_cudnn() -> bool:
    """JAX asks for cuDNN's version while it traces, and fails where there is none."""
    array = jax.ShapeDtypeStruct((1, 8, 1, 8), jnp.bfloat16)
    try:
        jax.eval_shape(
            partial(jax.nn.dot_product_attention, implementation="cudnn"), array, array, array
        )
    except RuntimeError:
        return False
    return True


def _attend(
    queries: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    bias: jax.Array | None,
    mask: jax.Array | None,
) -> jax.Array:
    queries = queries * queries.shape[-1] ** -0.5
    scores = jnp.einsum("bhqd,bhkd->bhqk", queries, keys, preferred_element_type=jnp.float32)
    if bias is not None:
        scores = scores + bias
    if mask is not None:
        scores = jnp.where(mask, scores, -jnp.inf)
    weights = jnp.exp(scores - scores.max(-1, keepdims=True))
    total = weights.sum(-1, keepdims=True)
    mixed = jnp.einsum("bhqk,bhkd->bhqd", weights.astype(values.dtype), values)
    return (mixed / total).astype(values.dtype)


def keep_rows(x: jax.Array) -> jax.Array:
    """Say that a batch's rows stay on their devices: [rows, ...] to the same.

    Where weights are spread over the devices that have the rows, the compiler might gather rows,
    which are more, rather than weights. Means nothing unless `jax.set_mesh` has named a mesh.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if set(ROWS) <= set(mesh.auto_axes):
        return jax.lax.with_sharding_constraint(x, P(ROWS))
    return x


class Adapter(nnx.Module):
    """What is added to a frozen layer's output: narrow, and nothing at first."""

    def __init__(
        self, inputs: int, rank: int, outputs: int, *, bent: bool = False, rngs: nnx.Rngs
    ) -> None:
        """Shape it.

        Args:
            bent: with a GELU in its middle (a parallel adapter, arXiv 2110.04366); else linear
                (LoRA, arXiv 2106.09685).
        """
        self.down = nnx.Param(jax.random.normal(rngs.params(), (inputs, rank)) * inputs**-0.5)
        self.up = nnx.Param(jnp.zeros((rank, outputs)))
        self.bent = bent

    def __call__(self, x: jax.Array, adapted: jax.Array) -> jax.Array:
        """[..., inputs] to [..., outputs]; `adapted` is [..., 1], True where it counts."""
        narrow = x @ self.down[...]
        if self.bent:
            narrow = jax.nn.gelu(narrow)
        return narrow * adapted.astype(x.dtype) @ self.up[...]


class Linear(nnx.Linear):
    """A linear layer, whose kernel may be there once more for a CPU (`models/tiles.py`)."""

    def __init__(self, inputs: int, outputs: int, *, use_bias: bool = True, rngs: nnx.Rngs) -> None:
        super().__init__(inputs, outputs, use_bias=use_bias, rngs=rngs)
        self.tiles: nnx.Variable[jax.Array] | None = nnx.data(None)

    def read_in_tiles(self) -> None:
        """Keep them from now on."""
        self.tiles = nnx.Variable(in_tiles(self.kernel[...]))

    def __call__(self, x: jax.Array, adapted: jax.Array | None = None) -> jax.Array:
        """[..., inputs] to [..., outputs]; `adapted` means something to an adapter alone."""
        if self.tiles is None or not tiles_pay(x):
            return super().__call__(x)
        y = times_tiles(x, self.tiles[...], self.out_features).astype(x.dtype)
        return y if self.bias is None else y + self.bias[...]


class AdaptedLinear(Linear):
    """A linear layer with an adapter."""

    def __init__(
        self, inputs: int, outputs: int, *, rank: int, use_bias: bool = True, rngs: nnx.Rngs
    ) -> None:
        super().__init__(inputs, outputs, use_bias=use_bias, rngs=rngs)
        self.adapter = Adapter(inputs, rank, outputs, rngs=rngs)

    def __call__(self, x: jax.Array, adapted: jax.Array | None = None) -> jax.Array:
        """[..., inputs] to [..., outputs]; `adapted` is [..., 1], True where the adapter counts."""
        y = super().__call__(x)
        return y if adapted is None else y + self.adapter(x, adapted)


def _linear(inputs: int, outputs: int, rank: int, bias: bool, rngs: nnx.Rngs) -> Linear:
    if rank:
        return AdaptedLinear(inputs, outputs, rank=rank, use_bias=bias, rngs=rngs)
    return Linear(inputs, outputs, use_bias=bias, rngs=rngs)


class Attention(nnx.Module):
    """Multi-head attention; by default with Whisper's biases, on all but the keys."""

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        source_width: int | None = None,
        shared_heads: int | None = None,
        bias: bool = True,
        rotary: bool = False,
        rank: int = 0,
        rngs: nnx.Rngs,
    ) -> None:
        """Shape the projections.

        Args:
            source_width: of what is attended to; None is `width`.
            shared_heads: heads of keys and values, each read by several heads of queries; None is
                `heads`.
            bias: as Whisper has them, or none at all.
            rotary: turn queries and keys by their position (RoFormer, arXiv 2104.09864).
            rank: of the projections' adapters, 0 for none. Keys and values have them only where
                an attention is to itself.
        """
        own = 0 if source_width else rank
        source_width, features = source_width or width, width // heads
        self.heads, self.rotary = heads, rotary
        self.shared_heads = shared_heads or heads
        stored = features * self.shared_heads
        self.query = _linear(width, width, rank, bias, rngs)
        self.key = _linear(source_width, stored, own, False, rngs)
        self.value = _linear(source_width, stored, own, bias, rngs)
        self.out = _linear(width, width, rank, bias, rngs)

    def keys_values(self, states: jax.Array, adapted: jax.Array | None = None) -> KeysValues:
        """Project what is attended to: [batch, positions, width] to keys and values.

        Args:
            adapted: [batch, positions, 1], True where adapters count.
        """
        keys, values = (
            _split(layer(states, adapted), self.shared_heads) for layer in (self.key, self.value)
        )
        return (rotate(keys) if self.rotary else keys), values

    def queries(self, x: jax.Array, adapted: jax.Array | None = None) -> jax.Array:
        """[batch, queries, width] to [batch, heads, queries, features]."""
        queries = _split(self.query(x, adapted), self.heads)
        return rotate(queries) if self.rotary else queries

    def __call__(
        self,
        x: jax.Array,
        attended: KeysValues,
        bias: jax.Array | None = None,
        mask: jax.Array | None = None,
        adapted: jax.Array | None = None,
    ) -> jax.Array:
        """Attend from x, [batch, queries, width], to keys and values.

        Args:
            bias: added to the scores, broadcastable to [batch, heads, queries, positions].
            mask: True where a query may look, of the same shape.
            adapted: [batch, queries, 1], True where adapters count.
        """
        queries = self.queries(x, adapted)
        # Heads that share keys stand side by side as more queries: nothing is copied.
        batch, _, _, features = queries.shape
        grouped = queries.reshape(batch, self.shared_heads, -1, features)
        mixed = attend(grouped, *attended, bias=bias, mask=mask).reshape(queries.shape)
        return self.out(mixed.swapaxes(1, 2).reshape(x.shape), adapted)


def _split(x: jax.Array, heads: int) -> jax.Array:
    """[batch, positions, width] to [batch, heads, positions, features]."""
    return x.reshape(*x.shape[:2], heads, -1).swapaxes(1, 2)


def rotate(x: jax.Array) -> jax.Array:
    """Turn each pair of features by an angle that grows with the position, from 0 on.

    Args:
        x: [batch, heads, positions, features].
    """
    positions, half = x.shape[2], x.shape[3] // 2
    angles = jnp.arange(positions)[:, None] * 10_000.0 ** (-jnp.arange(half) / half)
    cos, sin = jnp.cos(angles).astype(x.dtype), jnp.sin(angles).astype(x.dtype)
    first, second = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, first * sin + second * cos], axis=-1)


class FeedForward(nnx.Module):
    """Two linear layers with an exact (erf) GELU between: [..., width] to [..., width].

    Args:
        hidden: width between them; None is four times `width`.
        relu: a ReLU between instead.
    """

    def __init__(
        self, width: int, hidden: int | None = None, relu: bool = False, *, rngs: nnx.Rngs
    ) -> None:
        self.relu = relu
        self.up = Linear(width, hidden or 4 * width, rngs=rngs)
        self.down = Linear(hidden or 4 * width, width, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.up(x)
        return self.down(jax.nn.relu(x) if self.relu else jax.nn.gelu(x, approximate=False))


class GatedFeedForward(nnx.Module):
    """SwiGLU (arXiv 2002.05202), no biases: [..., width] to [..., width]."""

    def __init__(self, width: int, hidden: int, *, rngs: nnx.Rngs) -> None:
        self.gate = nnx.Linear(width, hidden, use_bias=False, rngs=rngs)
        self.up = nnx.Linear(width, hidden, use_bias=False, rngs=rngs)
        self.down = nnx.Linear(hidden, width, use_bias=False, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.down(jax.nn.silu(self.gate(x)) * self.up(x))


def layer_norm(width: int, rngs: nnx.Rngs) -> nnx.LayerNorm:
    """Whisper's layer norm: statistics in float32, by the two-pass variance that PyTorch uses."""
    return nnx.LayerNorm(width, epsilon=1e-5, use_fast_variance=False, rngs=rngs)


def table(count: int, width: int) -> nnx.Param[jax.Array]:
    """A table of embeddings, filled from a checkpoint: [count, width]."""
    return nnx.Param(jnp.zeros((count, width)))
