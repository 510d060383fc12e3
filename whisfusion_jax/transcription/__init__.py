"""Recordings in, transcripts out: what users call."""
