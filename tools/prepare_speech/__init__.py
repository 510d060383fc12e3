"""Sets to train on."""
