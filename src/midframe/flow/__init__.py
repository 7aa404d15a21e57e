"""Optical flow without learning."""
