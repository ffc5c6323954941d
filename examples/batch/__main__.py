"""Labels the rows of a table: CSV in and out through pandas, Parquet in and out through pyarrow.

    python -m examples.batch [DIRECTORY]

An LM server on loopback plays the LM. Run it twice with the same directory: the second run makes no call.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import dspy
import pyarrow

from dspy_parallel import iter_batch
from dspy_parallel.testing import LMServer
from examples.batch.tables import csv_rows, parquet_rows, write_csv, write_parquet

SCHEMA = pyarrow.schema(
    [("id", pyarrow.int64()), ("text", pyarrow.string()), ("sentiment", pyarrow.string()), ("stars", pyarrow.int64())]
)


class Review(dspy.Signature):
    """Judge a customer's review."""

    text: str = dspy.InputField()
    sentiment: Literal["good", "bad", "mixed"] = dspy.OutputField()
    stars: int = dspy.OutputField()


class Label(dspy.Module):
    """Labels one row; columns that are not for the LM pass through."""

    def __init__(self) -> None:
        super().__init__()
        self.judge = dspy.Predict(Review)

    def forward(self, id: int, text: str) -> Any:
        judged = self.judge(text=text)
        return dspy.Prediction(id=id, text=text, sentiment=judged.sentiment, stars=judged.stars)


def labelled(rows: Iterable[dict[str, Any]], resume: Path) -> Iterator[dict[str, Any]]:
    """Each row with its labels, in the table's order."""
    for item in iter_batch(Label(), rows, max_in_flight=50, ordered=True, resume=resume):
        yield dict(item.result.items())


def make_tables(directory: Path, count: int = 200) -> None:
    """A small table to begin with, in both formats."""
    rows = [{"id": n, "text": f'Review {n}: "it came late", but works'} for n in range(count)]
    write_csv(directory / "reviews.csv", iter(rows))
    write_parquet(directory / "reviews.parquet", iter(rows), pyarrow.schema([SCHEMA.field("id"), SCHEMA.field("text")]))


def main(directory: Path) -> int:
    """Label both tables; how many LM calls that took."""
    if not (directory / "reviews.parquet").exists():
        make_tables(directory)
    with LMServer(latency=0.1) as server:
        with dspy.context(lm=dspy.LM("openai/any", cache=False, **server.lm_kwargs())):
            read = csv_rows(directory / "reviews.csv")
            count = write_csv(directory / "labelled.csv", labelled(read, directory / "csv.jsonl"))
            print(f"{count} rows in {directory / 'labelled.csv'}")
            read = parquet_rows(directory / "reviews.parquet")
            rows = labelled(read, directory / "parquet.jsonl")
            count = write_parquet(directory / "labelled.parquet", rows, SCHEMA)
            print(f"{count} rows in {directory / 'labelled.parquet'}")
        return server.stats().requests


if __name__ == "__main__":
    where = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="reviews-"))
    where.mkdir(parents=True, exist_ok=True)
    print(f"{main(where)} LM calls")
