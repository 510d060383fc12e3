"""Speech recognition by masked diffusion, in JAX and Flax.

`Transcriber.from_bundle("tiny.en").transcribe("talk.mp3").text` is all that most need.
"""

from whisfusion_jax.errors import WhisfusionError
from whisfusion_jax.transcription.transcriber import Transcriber
from whisfusion_jax.transcription.transcript import Segment, Transcript

__all__ = ["Segment", "Transcriber", "Transcript", "WhisfusionError"]
