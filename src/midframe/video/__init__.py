"""Films: reading, times, colour, streams and writing. Nothing here knows a network."""
