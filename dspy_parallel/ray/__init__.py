"""A program over a Ray Dataset: as many processes as the cluster has room for, many rows in flight in each.

Importing this does not import Ray: `map_dataset()` does.
"""

from __future__ import annotations

from .datasets import map_dataset

__all__ = ["map_dataset"]
