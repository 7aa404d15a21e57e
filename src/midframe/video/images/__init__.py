"""Image sequences, animations and y4m as films."""
