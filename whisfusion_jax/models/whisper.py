"""Whisper whole: encoder and decoder under one roof, as they are trained and stored."""

from flax import nnx

from whisfusion_jax.config import WhisperConfig
from whisfusion_jax.models.decoder import Decoder
from whisfusion_jax.models.encoder import Encoder


class Whisper(nnx.Module):
    """The two halves under one roof, as they are trained and stored."""

    def __init__(self, config: WhisperConfig, *, rngs: nnx.Rngs) -> None:
        self.encoder = Encoder(config, rngs=rngs)
        self.decoder = Decoder(config, rngs=rngs)
