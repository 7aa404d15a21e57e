"""Optical flow between two frames, estimated without a trained model."""

from midframe.flow.estimate import estimate_flow

__all__ = ["estimate_flow"]
