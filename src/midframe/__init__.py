"""Midframe makes the frames between the frames of a film."""
