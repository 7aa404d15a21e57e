"""The data set: windows of consecutive frames out of films, kept as tar shards in the WebDataset layout."""
