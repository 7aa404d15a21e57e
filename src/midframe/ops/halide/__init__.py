"""What the operators' Halide pipelines share."""
