"""Text to tokens and back, and the normalisers that error rates are counted on."""
