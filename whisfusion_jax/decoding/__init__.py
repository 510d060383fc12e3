"""Audio states to tokens: the compiled loops."""
