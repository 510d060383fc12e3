"""Networks in Flax NNX: Whisper's encoder and decoder, and the padding memory between them."""
