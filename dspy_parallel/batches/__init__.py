"""Many examples through one program: `batch()`, `iter_batch()`, `abatch()`."""

from __future__ import annotations

from .items import BatchItem
from .iteration import abatch, batch, iter_batch

__all__ = ["BatchItem", "abatch", "batch", "iter_batch"]
