"""The data set: windows of consecutive frames out of films, kept as tar shards in the WebDataset layout."""

from midframe.training.build.build import BuildProgress, BuildSummary, build_dataset
from midframe.training.build.settings import DatasetSettings

__all__ = ["BuildProgress", "BuildSummary", "DatasetSettings", "build_dataset"]
