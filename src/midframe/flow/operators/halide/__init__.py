"""Parts that the Halide pipelines of several flow operators share.

In the pipelines, frames `[2B, 1, H, W]` are functions `f(x, y, n, s)`, with s = 0 for the first and s = 1 for the
second frame; flow `[B, 2, H, W]` is `f(x, y, c, n)`. A parallel task computes some rows of one sample. Each stage of a
pipeline computes a row when it is first needed and keeps the rows that are needed again (Halide's sliding window), so
intermediate results stay in the cache.
"""
