"""Speech to learn from: datasets, made speech, augmentation, batches."""
