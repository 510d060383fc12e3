"""Masked diffusion's mathematics: corruption and the objective."""
