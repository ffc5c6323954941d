"""What is promised about LangGraph's speed, as ratios taken side by side. Run alone on the machine: `tox -e bench`."""

from __future__ import annotations

import pytest

pytest.importorskip("langgraph.graph")

from benchmarks import graph_overlap, machine
from benchmarks import langgraph_fanout as benchmark
from benchmarks.graph_overlap import OVERLAPPED, PARALLEL, SHAPES
from benchmarks.langgraph_fanout import BY_HAND, OURS, STOCK, against
from benchmarks.workload import engines, make_lm, start_server

pytestmark = [pytest.mark.bench, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def server():
    running = start_server(latency=benchmark.BLOCK_SECONDS)
    machine.pin(running.pid)
    yield running
    running.stop()


@pytest.mark.parametrize(("width", "rounds"), [(200, 8), (1000, 4)])
async def test_a_fan_out_is_as_fast_as_hand_written_nodes(server, width, rounds):
    """Sync nodes under `ainvoke` and `invoke`, and async nodes that call sync DSPy."""
    turns = await benchmark.fan_out(make_lm(server, engines()[0]), width, rounds, stock=False)
    benchmark.show(f"{width}-way Send", turns, BY_HAND)
    for name in OURS.values():
        assert against(turns, name, BY_HAND).median <= 1.10, name


@pytest.mark.parametrize("blocker", benchmark.BLOCKERS)
async def test_nodes_that_block_are_never_slower_than_stock(server, blocker):
    """Also in the first run, when nothing is known about them; and no slower than with a thread for each."""
    turns = await benchmark.blocking(blocker, server.api_base, 100, 3)
    benchmark.show(f"nodes that block: {blocker}", turns, STOCK["ainvoke"])
    for name in (OURS["ainvoke"], OURS["invoke"]):
        for run in (0, 1):
            assert against(turns, name, STOCK["ainvoke"], run).high <= 1.0, (name, run)
            assert against(turns, name, STOCK["invoke"], run).high <= 1.0, (name, run)


async def test_a_long_loop_costs_no_more_than_stock_ainvoke():
    turns = await benchmark.steps(7)
    benchmark.show("steps", turns, STOCK["ainvoke"])
    for name in (OURS["ainvoke"], OURS["invoke"]):
        assert against(turns, name, STOCK["ainvoke"]).median <= 1.15, name
        assert against(turns, name, STOCK["ainvoke"], 0).median <= 1.15, name
    assert against(turns, OURS["invoke"], STOCK["invoke"]).median <= 1.3


@pytest.mark.parametrize("name", SHAPES)
async def test_a_graph_takes_the_time_of_a_hand_written_program(server, name):
    """With `overlap=True`; one that gains nothing takes the time that it takes without."""
    server.configure(latency=graph_overlap.LATENCY)
    turns = await graph_overlap.shape(name, make_lm(server, engines()[0]), 7)
    benchmark.show(SHAPES[name].title, turns, graph_overlap.BY_HAND)
    for ours in OVERLAPPED.values():
        assert against(turns, ours, graph_overlap.BY_HAND).median <= 1.05, ours
    if name == "dependent":
        assert against(turns, OVERLAPPED["ainvoke"], PARALLEL).median <= 1.02
