"""What is shown while it is recorded."""

from __future__ import annotations

import asyncio
import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import dspy
import pytest

from dspy_parallel import limit, limit_all, record, uninstall
from dspy_parallel.display import plain
from dspy_parallel.timeline.live_view import LiveView
from dspy_parallel.timeline.recorder import Recorder

MODEL = "openai/gpt-4o-mini-2024-07-18"


@pytest.fixture
def lm(server):
    yield dspy.LM(MODEL, cache=False, num_retries=0, **server.lm_kwargs())
    limit_all()
    uninstall()


def seen(view, width=200):
    """The figures of the only LM, by the titles of their columns."""
    now = time.perf_counter()
    view.look(now)
    head, *rows, _ = plain(view.lines(now, width)).splitlines()
    titles = head.replace("in flight", "in_flight").split()
    return dict(zip(titles, " ".join(rows).split(), strict=True))


async def test_in_flight_waiting_and_done(server, lm):
    server.configure(hold=True, faults=[{"kind": "429", "times": 1, "retry_after": 0}])
    limit(lm, max_in_flight=2)
    predict = dspy.Predict("question -> answer")
    with dspy.context(lm=lm), record() as timeline:
        view = LiveView(timeline._source.__self__.spans)
        calls = [asyncio.create_task(predict.acall(question=str(number))) for number in range(5)]
        await server.await_for(held=2)
        assert seen(view).items() >= {"LM": MODEL, "in_flight": "2", "waiting": "3", "done": "0"}.items()
        await server.arelease()
        await asyncio.gather(*calls)
        found = seen(view)
    assert found.items() >= {"in_flight": "0", "waiting": "0", "done": "5", "failed": "0", "429s": "1"}.items()
    assert float(found["calls/s"]) > 0
    assert int(found["tokens/s"].replace(",", "")) > 0
    assert sum(call.facts["tokens"] for call in timeline.lm_calls) > 0


@pytest.mark.parametrize(("width", "last"), [(120, "tokens/s"), (64, "tokens/s"), (40, "429s"), (20, "waiting")])
def test_names_of_models_are_cut_last(server, lm, width, last):
    with dspy.context(lm=lm), record() as timeline:
        dspy.Predict("question -> answer")(question="?")
    recorder = timeline._source.__self__
    assert isinstance(recorder, Recorder)
    found = seen(LiveView(recorder.spans), width)
    assert list(found)[-1] == last
    assert (found["LM"] == MODEL) == (width > 30)


@pytest.mark.once
def test_it_is_shown_on_a_terminal_only(tmp_path):
    """And what the program prints stays."""
    pytest.importorskip("rich")
    script = "from lm import Summaries\nprint(Summaries()(text='a').answer)"
    (tmp_path / "script.py").write_text(script)
    root = Path(__file__).parents[2]
    path = os.pathsep.join([str(root), str(root / "tests/cli/scripts")])
    how = {"env": {**os.environ, "PYTHONPATH": path, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "TERM": "xterm"}}
    command = [sys.executable, "-m", "dspy_parallel", "run", "--live", str(tmp_path / "script.py")]
    ours, theirs = pty.openpty()
    out = (tmp_path / "out").open("w+b")
    with out, subprocess.Popen(command, stdout=out, stderr=theirs, stdin=subprocess.DEVNULL, **how) as process:
        os.close(theirs)
        shown = b""
        try:
            while piece := os.read(ours, 65536):
                shown += piece
        except OSError:  # its end, on Linux
            pass
        assert process.wait(280) == 0
        out.seek(0)
        assert out.read().strip().isdigit()
    os.close(ours)
    assert b"in flight" in shown
    assert b"dspy-parallel: " in shown
    done = subprocess.run(command, capture_output=True, check=True, timeout=280, **how)
    assert done.stderr.count(b"\n") == 1
