"""Training data: shards, data sets in memory, augmented samples and batches."""
