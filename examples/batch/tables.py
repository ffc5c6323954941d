"""Tables in and out, one row at a time, whatever their length."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas
import pyarrow
import pyarrow.parquet

ROWS_AT_ONCE = 1000


def csv_rows(path: Path) -> Iterator[dict[str, Any]]:
    """A CSV file's rows, through pandas."""
    for chunk in pandas.read_csv(path, chunksize=ROWS_AT_ONCE):
        yield from chunk.to_dict("records")


def parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    """A Parquet file's rows, through pyarrow."""
    with pyarrow.parquet.ParquetFile(path) as file:
        for chunk in file.iter_batches(ROWS_AT_ONCE):
            yield from chunk.to_pylist()


def write_csv(path: Path, rows: Iterator[dict[str, Any]]) -> int:
    """Write rows as they come; how many there were."""
    count = 0
    with path.open("w", newline="", encoding="utf-8") as file:
        writer: csv.DictWriter[str] | None = None
        for row in rows:
            if writer is None:
                writer = csv.DictWriter(file, list(row))
                writer.writeheader()
            writer.writerow(row)
            count += 1
    return count


def write_parquet(path: Path, rows: Iterator[dict[str, Any]], schema: pyarrow.Schema) -> int:
    """Write rows as they come, `ROWS_AT_ONCE` to a row group; how many there were."""
    count = 0
    waiting: list[dict[str, Any]] = []
    with pyarrow.parquet.ParquetWriter(path, schema) as writer:
        for row in rows:
            waiting.append(row)
            count += 1
            if len(waiting) == ROWS_AT_ONCE:
                writer.write_table(pyarrow.Table.from_pylist(waiting, schema))
                waiting.clear()
        if waiting:
            writer.write_table(pyarrow.Table.from_pylist(waiting, schema))
    return count
