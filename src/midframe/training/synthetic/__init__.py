"""Synthetic scenes with exactly known motion."""
