"""The actor that runs rows: many in flight, whichever tasks they belong to."""

from __future__ import annotations

import importlib
import pickle
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, cast

import dspy

from .. import seams
from ..batches.items import Call
from ..batches.progress_bar import tokens_in
from ..bridge import serving_loop
from ..placement import Engine
from ..seams.forked_settings import ForkedSettings
from ..task_pool import Job, TaskPool
from .columns import columns_of, table_of
from .reports import Reports
from .shipment import Shipment

__all__ = ["Worker"]


@dataclass(eq=False)
class _Row(Job):
    columns: dict[str, Any]
    key: bytes
    branch: ForkedSettings
    done: Future[dict[str, Any]]


class Worker:
    """What Ray Data makes an actor of, and calls with tables, in a thread for each task."""

    def __init__(
        self,
        *,
        shipment: bytes,
        ledger: Any,
        workers: int,
        max_in_flight: int,
        inputs: tuple[str, ...] | None,
        on_error: str,
        counts: bool,
        engine: Engine,
    ) -> None:
        self._ray: Any = importlib.import_module("ray")
        number: int = self._ray.get(ledger.enter.remote(self._ray.get_runtime_context().get_actor_id()))
        program, self._context = Shipment.unpacked(shipment, number, workers)
        seams.install()
        self._call = Call.of(program, engine)
        loop = serving_loop()
        assert loop is not None  # this is not its thread
        self._flight = TaskPool(loop, max_in_flight, self._landed)
        self._ledger = ledger
        self._reports = Reports(ledger, loop)
        self._inputs = inputs
        self._returns_errors = on_error == "return"
        self._counts = counts
        self._tables: Counter[str] = Counter()
        self._names: dict[str, None] = {}
        """Columns that results have had, in order: rows without a result have them, too, with nulls."""

    def __call__(self, table: Any) -> Any:
        """The table with the results."""
        task: str = self._ray.get_runtime_context().get_task_id()  # the same if it is run again
        self._tables[task] += 1
        rows: list[dict[str, Any]] = table.to_pylist()
        keys = [_key(task, self._tables[task], number, row) for number, row in enumerate(rows)]
        known: dict[bytes, bytes] = self._ray.get(self._ledger.find.remote(keys))
        missing = {key: self._started(row, key) for key, row in zip(keys, rows, strict=True) if key not in known}
        results: list[dict[str, Any]] = []
        try:
            for key in keys:
                results.append(pickle.loads(known[key]) if key in known else self._result(missing[key]))
        except BaseException:
            ours = set(missing.values())
            self._flight.cancel(lambda row: row in ours)
            raise
        self._names.update(dict.fromkeys(name for result in results for name in result))
        nothing = dict.fromkeys(self._names)
        return table_of([{**row, **nothing, **result} for row, result in zip(rows, results, strict=True)])

    def _started(self, columns: dict[str, Any], key: bytes) -> _Row:
        kwargs = columns if self._inputs is None else {name: columns[name] for name in self._inputs}
        # A copy: several threads are in here, and a context can be entered only once at a time.
        branch: ForkedSettings = self._context.copy().run(lambda: ForkedSettings(counts=self._counts, notes=False))
        call = self._call
        placement = call.placement((), kwargs)
        row = _Row(call.fn, (), kwargs, branch.context, placement, columns, key, branch, Future())
        self._flight.submit(row)
        return row

    def _result(self, row: _Row) -> dict[str, Any]:
        """Its columns, once it has landed."""
        try:
            columns = row.done.result()
        except Exception as exc:
            if not self._returns_errors:
                raise
            return {"error": f"{type(exc).__name__}: {exc}"}
        return {**columns, "error": None} if self._returns_errors else columns

    def _landed(self, launch: Any, result: Any, exception: BaseException | None) -> None:
        """On the loop's thread."""
        row: _Row = launch
        tokens = tokens_in(_usage(row.branch, result)) if self._counts else 0
        try:
            if exception is not None:
                raise exception
            columns = columns_of(result)
            self._reports.finished(row.key, pickle.dumps(columns), tokens)
        except BaseException as exc:
            self._reports.failed(tokens)
            row.done.set_exception(exc)
        else:
            row.done.set_result(columns)


def _key(task: str, table: int, number: int, row: Mapping[str, Any]) -> bytes:
    """A row's name. Its content is part of it: if a lost input is made anew, it need not be what it was."""
    return blake2b(pickle.dumps((task, table, number, row)), digest_size=16).digest()


def _usage(branch: ForkedSettings, result: Any) -> Mapping[str, Any] | None:
    if branch.tracker is not None:
        return cast("Mapping[str, Any]", branch.tracker.get_total_tokens())
    return cast("Mapping[str, Any] | None", result.get_lm_usage()) if isinstance(result, dspy.Prediction) else None
