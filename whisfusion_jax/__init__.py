"""Speech recognition by masked diffusion, in JAX and Flax.

`Transcriber.from_bundle("tiny.en").transcribe("talk.mp3").text` is all that most need.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from whisfusion_jax.errors import WhisfusionError
    from whisfusion_jax.transcription.transcriber import Transcriber
    from whisfusion_jax.transcription.transcript import Segment, Transcript

__all__ = ["Segment", "Transcriber", "Transcript", "WhisfusionError"]
_ROOMS = {
    "Segment": "transcription.transcript",
    "Transcriber": "transcription.transcriber",
    "Transcript": "transcription.transcript",
    "WhisfusionError": "errors",
}


def __getattr__(name: str) -> Any:
    # JAX is big, and a process that only decodes recordings needs none.
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_ROOMS[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
