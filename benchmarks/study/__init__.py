"""Both papers' claims held against what they claim to beat, on the same work in one run."""
