"""The example: a CSV and a Parquet file, in and out, and a second run that makes no call."""

from __future__ import annotations

from pathlib import Path

import pytest

pandas = pytest.importorskip("pandas")
pytest.importorskip("pyarrow")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def test_csv_and_parquet_in_and_out(tmp_path: Path) -> None:
    from examples.batch.__main__ import main, make_tables

    make_tables(tmp_path, 30)
    assert main(tmp_path) == 60
    as_csv, as_parquet = pandas.read_csv(tmp_path / "labelled.csv"), pandas.read_parquet(tmp_path / "labelled.parquet")
    assert list(as_csv.columns) == ["id", "text", "sentiment", "stars"]
    assert as_csv.to_dict("records") == as_parquet.to_dict("records")
    assert list(as_csv["id"]) == list(range(30))
    assert as_csv["text"][7] == 'Review 7: "it came late", but works'
    assert set(as_csv["sentiment"]) <= {"good", "bad", "mixed"}
    assert main(tmp_path) == 0
    assert pandas.read_csv(tmp_path / "labelled.csv").equals(as_csv)
