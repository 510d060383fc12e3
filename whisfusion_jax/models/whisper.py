"""Whisper whole: encoder and decoder under one roof."""

from flax import nnx

from whisfusion_jax.models.decoder import Decoder
from whisfusion_jax.models.encoder import Encoder


class Whisper(nnx.Module):
    """The two halves under one roof, as they were trained."""

    def __init__(self, encoder: Encoder, decoder: Decoder) -> None:
        self.encoder = encoder
        self.decoder = decoder
