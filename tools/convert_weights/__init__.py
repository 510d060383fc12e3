"""Whisper checkpoints of other formats to bundles: `python -m tools.convert_weights`."""
