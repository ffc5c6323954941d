"""MLflow's autologging: one trace for each program, whose spans have the parents that they have in a plain call."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

IN_A_PROCESS_OF_ITS_OWN = """
import asyncio, contextlib, json, sys, warnings
warnings.simplefilter("ignore")
import dspy, mlflow
from tests.observability.programs import Whole, alone, decorated, together

mlflow.set_tracking_uri(sys.argv[1])
mlflow.set_experiment("programs")
mlflow.dspy.autolog()
way = sys.argv[2]

async def one(number, call):
    await call(number)

program = Whole(mlflow.start_span) if way == "plain" else decorated(mlflow.start_span, way)
asyncio.run((alone if way == "plain" else together)(program, one))
mlflow.flush_trace_async_logging()
trees = []
for trace in mlflow.search_traces(return_type="list", max_results=1000):
    spans = {span.span_id: span for span in trace.data.spans}
    def path(span):
        name = "LM" if "TwinLM" in span.name or "Meets" in span.name else span.name.partition("_")[0]
        return [*(path(spans[span.parent_id]) if span.parent_id else []), name]
    trees.append(sorted(map(path, spans.values())))
print("TREES", json.dumps(sorted(trees)))
"""


def trees(way: str, directory: Path) -> list[list[list[str]]]:
    done = subprocess.run(
        [sys.executable, "-c", IN_A_PROCESS_OF_ITS_OWN, f"sqlite:///{directory}/{way}.db", way],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "different Context" not in done.stderr
    return json.loads(done.stdout.partition("TREES ")[2])


@pytest.mark.timeout(900)
def test_traces_are_those_of_plain_calls(tmp_path: Path) -> None:
    pytest.importorskip("mlflow", reason="tox -e observability")
    expected = trees("plain", tmp_path)
    assert len(expected) == 30, "one trace for each program"
    assert max(map(len, expected[0])) >= 5
    for way in ("auto", "thread"):
        assert trees(way, tmp_path) == expected
