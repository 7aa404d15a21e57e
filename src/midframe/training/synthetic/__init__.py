"""Synthetic training samples: textured layers in motion, rendered with their exact optical flow."""
