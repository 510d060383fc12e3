"""Transcripts against references: error rates and reports."""
