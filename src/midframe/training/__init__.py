"""From films to trained weights."""
