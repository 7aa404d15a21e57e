"""Compile Halide pipelines, and build the parts that the pipelines of several operators share."""
