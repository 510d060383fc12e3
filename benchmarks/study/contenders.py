"""What takes part: a recipe's bundle, and a way to decode."""

from dataclasses import dataclass

from whisfusion_jax.decoding.unmasking import (
    PositionBiased,
    RandomRemask,
    Repair,
    Rule,
    Threshold,
    TopN,
)
from whisfusion_jax.transcription.decoders import DecoderName
from whisfusion_jax.transcription.winner import Winner

SHIPPED = "shipped"
"""The recipe of the bundle that the package brings."""
TUNED = "ar_tuned"
"""The recipe of Whisper's own decoder, tuned on the same data."""


@dataclass(frozen=True)
class Contender:
    """A way to decode with what a recipe trained."""

    name: str
    recipe: str = SHIPPED
    decoder: DecoderName = "diffusion"
    rule: Rule | None = None
    candidates: int = 1
    temperature: float = 0.0
    winner: Winner = "mbr"
    stretch: int | None = None
    noisy: bool = False
    """Whether it also hears each set with noise."""


def _from_nothing(recipe: str) -> list[Contender]:
    """A recipe that sees all, from an empty canvas: what stands rewritten at each step, or not."""
    return [
        *(Contender(f"{recipe}, top_n {steps}", recipe, rule=TopN(steps)) for steps in (1, 4, 8)),
        *(
            Contender(
                f"{recipe}, pbeb, at most {steps} steps", recipe, rule=PositionBiased(steps=steps)
            )
            for steps in (4, 8)
        ),
    ]


def contenders(recipes: list[str]) -> list[Contender]:
    """All of the study's.

    Args:
        recipes: trained beside the shipped one: those that see all, and perhaps `TUNED`.
    """
    return [
        Contender("ar", decoder="ar", noisy=True),
        Contender("exact", decoder="exact", stretch=24),
        Contender("shipped, pbeb", noisy=True),
        *(
            Contender(f"shipped, pbeb {steps}", rule=PositionBiased(steps=steps))
            for steps in (4, 8)
        ),
        *(Contender(f"shipped, threshold {t}", rule=Threshold(t)) for t in (0.5, 0.9)),
        *(Contender(f"shipped, top_n {steps}", rule=TopN(steps)) for steps in (4, 8)),
        *(
            Contender(f"repair {steps}", rule=Repair(steps), noisy=steps == 4)
            for steps in (1, 2, 4, 8)
        ),
        Contender("shipped, random_remask", rule=RandomRemask()),
        *(
            Contender(
                f"shipped, {count} candidates, {winner}",
                candidates=count,
                temperature=0.7,
                winner=winner,
            )
            for count in (4, 16)
            for winner in ("mbr", "confidence")
        ),
        *(Contender(recipe, recipe, decoder="ar") for recipe in recipes if recipe == TUNED),
        *(each for recipe in recipes if recipe != TUNED for each in _from_nothing(recipe)),
    ]
