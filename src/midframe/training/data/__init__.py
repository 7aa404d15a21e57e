"""Data sets, samples and batches."""
