"""Unmasking rules: which positions of a canvas are asked for again after a step.

A step writes the model's tokens at all masked positions; the rule then says which positions are
masked for the next one. Rules are small frozen dataclasses, so that they can be a compiled
program's key. All count steps from 0; rows are canvases.
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from whisfusion_jax.decoding.canvas import CANVASES
from whisfusion_jax.errors import WhisfusionError

LONGEST = CANVASES[-1]
"""Steps that are enough for any canvas, as each writes a token."""

REVISE = 0.5
"""Chosen on real recordings (docs/results.md)."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Written:
    """Canvases right after a step, every position filled."""

    free: jax.Array
    """[rows, n]: False where the user gave the token."""
    masked: jax.Array
    """[rows, n]: written in this step."""
    live: jax.Array
    """[rows, n]: up to the first end token."""
    confidence: jax.Array
    """[rows, n] float32: probability of each free position's token when it was written."""
    entropy: jax.Array
    """[rows, n] float32: in nats, of the distribution that it was taken from, where masked."""
    keys: jax.Array
    """[rows] random keys, of this step alone."""


class UnmaskingRule(Protocol):
    """How many steps there are at most, and what each leaves masked."""

    @property
    def steps(self) -> int: ...

    @property
    def revise(self) -> float:
        """How unlikely a token must be to be taken back, 0 (none ever is) to 1.

        With a warm denoiser, a token that was written ahead of a mask is replaced, and what follows
        it asked again, if Whisper gives it less than this share of its likeliest token's
        probability once all before it is known.
        """

    @property
    def ahead(self) -> bool:
        """Whether tokens are written ahead of the first mask."""

    @property
    def rewrites(self) -> bool:
        """Whether each step writes visible positions anew, too.

        A denoiser that has learned by self-correction mends them.
        """

    stops_early: ClassVar[bool]
    """Whether canvases may be finished before the last step; then the rule itself never masks a
    kept token again."""

    def remask(self, step: jax.Array, written: Written) -> jax.Array:
        """[rows, n]: True where the next step asks."""


@dataclass(frozen=True)
class TopN:
    """Keep a growing number of the most confident tokens; early picks may be revised."""

    steps: int = 8
    schedule: Literal["linear", "cosine"] = "linear"
    """Of the share that is kept; cosine keeps few at first."""
    bias: float = 0.0
    """By which a position's confidence falls with its number, as in PositionBiased."""
    rewrites: bool = False
    stops_early: ClassVar[bool] = False
    ahead: ClassVar[bool] = True
    revise: ClassVar[float] = 0.0

    def __post_init__(self) -> None:
        _check_steps(self.steps)

    def remask(self, step: jax.Array, written: Written) -> jax.Array:
        done = (step + 1) / self.steps
        share = done if self.schedule == "linear" else 1 - jnp.cos(done * math.pi / 2)
        # What lies behind the end is no text: it neither counts nor is kept.
        asked = written.free & written.live
        kept = jnp.ceil(share * asked.sum(-1, keepdims=True))
        rank = _rank(jnp.where(asked, _biased(written.confidence, self.bias), -jnp.inf))
        return written.free & (rank >= kept)


@dataclass(frozen=True)
class Threshold:
    """Keep every token that is confident enough, at least one; stop when none is masked."""

    confidence: float = 0.9
    revise: float = REVISE
    steps: int = LONGEST
    stops_early: ClassVar[bool] = True
    rewrites: ClassVar[bool] = False
    ahead: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check_steps(self.steps)
        _check_share("confidence", self.confidence)
        _check_share("revise", self.revise)

    def remask(self, step: jax.Array, written: Written) -> jax.Array:
        unsure = jnp.where(written.masked, written.confidence, -1.0)
        best = _rank(unsure) == 0
        return written.masked & (written.confidence < self.confidence) & ~best


@dataclass(frozen=True)
class RandomRemask:
    """Whisfusion's: independent masks at falling rates, so that candidates differ."""

    rates: tuple[float, ...] = (1.0, 0.9, 0.85, 0.8)
    """Mask rate before each step; the first masks everything."""
    stops_early: ClassVar[bool] = False
    rewrites: ClassVar[bool] = False
    ahead: ClassVar[bool] = True
    revise: ClassVar[float] = 0.0

    def __post_init__(self) -> None:
        _check_steps(self.steps)

    @property
    def steps(self) -> int:
        return len(self.rates)

    def remask(self, step: jax.Array, written: Written) -> jax.Array:
        rates = jnp.array((*self.rates[1:], 0.0), jnp.float32)
        n = written.free.shape[-1]
        draws = jax.vmap(lambda key: jax.random.uniform(key, (n,)))(written.keys)
        return written.free & (draws < rates[step])


@dataclass(frozen=True)
class PositionBiased:
    """MDM-ASR's sampler (PBEB-Conf, arXiv 2602.18952): nearly left to right, bounded by entropy.

    Masked positions are ordered by confidence times exp(-bias * position); the longest prefix of
    that order is kept whose entropies, but for the largest, sum to at most `entropy`. With few
    steps more is kept, where need be, so that the text is there at the last one (ours).
    """

    entropy: float = 1.0
    """In nats; the paper has 0.05, and nothing is revised there."""
    bias: float = 10.0
    """The paper has 0.2; at 10 nothing is written far ahead of the first mask."""
    revise: float = REVISE
    steps: int = LONGEST
    """The paper has 32."""
    stops_early: ClassVar[bool] = True
    rewrites: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check_steps(self.steps)
        _check_share("revise", self.revise)

    @property
    def ahead(self) -> bool:
        return self.entropy > 0

    def remask(self, step: jax.Array, written: Written) -> jax.Array:
        score = _biased(written.confidence, self.bias)
        order = jnp.argsort(jnp.where(written.masked, -score, jnp.inf), axis=-1)
        entropy = jnp.take_along_axis(written.entropy, order, axis=-1)
        spent = jnp.cumsum(entropy, -1) - jax.lax.cummax(entropy, axis=entropy.ndim - 1)
        rank = jnp.argsort(order, axis=-1)
        within = jnp.take_along_axis(spent <= self.entropy, rank, axis=-1)
        left = (written.masked & written.live).sum(-1, keepdims=True)
        pace = jnp.ceil(left / (self.steps - step))
        return written.masked & ~within & (rank >= jnp.maximum(pace, 1))


@dataclass(frozen=True)
class Mend:
    """Write everything anew, mask what is unsure, until nothing is; for drafts. Our own.

    The denoiser must have learned by self-correction.
    """

    steps: int = 4
    confidence: float = 0.5
    """Below which a token is masked."""
    stops_early: ClassVar[bool] = True
    ahead: ClassVar[bool] = True
    revise: ClassVar[float] = 0.0
    rewrites: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check_steps(self.steps)
        _check_share("confidence", self.confidence)

    def remask(self, step: jax.Array, written: Written) -> jax.Array:
        return written.free & written.live & (written.confidence < self.confidence)


@dataclass(frozen=True)
class Repair:
    """No unmasking: a draft is repaired in at most so many passes (decoding/repairing.py)."""

    steps: int | None = None
    """None: as many as the draft has tokens."""
    stops_early: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.steps is not None:
            _check_steps(self.steps)


Rule = UnmaskingRule | Repair
"""How diffusion writes."""

RuleName = Literal["threshold", "pbeb", "top_n", "random_remask", "repair"]
_RULES: dict[RuleName, Any] = {
    "threshold": Threshold, "pbeb": PositionBiased, "top_n": TopN, "random_remask": RandomRemask,
    "repair": Repair,
}  # fmt: skip


def rule_of(name: RuleName, steps: int | None = None, revise: float | None = None) -> Rule:
    """A rule by its name.

    Args:
        steps: at most so many; None is as many as the rule has of itself.
        revise: see `UnmaskingRule`; None is the rule's own.

    Raises:
        WhisfusionError: less than one step, or the rule revises nothing.
    """
    rule = _RULES[name]()
    if steps is not None:
        _check_steps(steps)
        rates = {"rates": (1.0, *np.linspace(0.9, 0.8, steps - 1).tolist())}
        rule = dataclasses.replace(rule, **(rates if name == "random_remask" else {"steps": steps}))
    if revise is None:
        return rule
    if not hasattr(rule, "revise") or not rule.stops_early:
        raise WhisfusionError(f"{name} has nothing to revise: it goes by its own schedule")
    return dataclasses.replace(rule, revise=revise)


def _check_steps(steps: int) -> None:
    if steps < 1:
        raise WhisfusionError(f"{steps} steps: at least 1 is needed")


def _check_share(name: str, share: float) -> None:
    if not 0 <= share <= 1:
        raise WhisfusionError(f"{name} {share} is not between 0 and 1")


def _biased(confidence: jax.Array, bias: float) -> jax.Array:
    """[rows, n] scores: log confidence, less `bias` at each position further right."""
    return jnp.log(jnp.maximum(confidence, 1e-30)) - bias * jnp.arange(confidence.shape[-1])


def _rank(score: jax.Array) -> jax.Array:
    """[rows, n]: 0 for each row's highest score, ties by position."""
    return jnp.argsort(jnp.argsort(-score, axis=-1, stable=True), axis=-1, stable=True)
