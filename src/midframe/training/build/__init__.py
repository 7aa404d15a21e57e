"""The data set builder: finds good windows of consecutive frames in films and stores them as shards."""

from midframe.training.build.build import BuildProgress, BuildSummary, build_dataset
from midframe.training.build.settings import DatasetSettings

__all__ = ["BuildProgress", "BuildSummary", "DatasetSettings", "build_dataset"]
