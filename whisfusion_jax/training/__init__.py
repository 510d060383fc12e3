"""Learning: the train state, one step, the loop, checkpoints."""
