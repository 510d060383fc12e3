"""Whisper checkpoints of other formats to bundles: each format is one file with its table of names."""
