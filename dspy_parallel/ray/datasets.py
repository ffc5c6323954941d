"""`map_dataset()`: one stage of Ray Data, of actors that each have many rows in flight."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..batches.batch_run import OnError
from ..errors import MissingExtraError, installation
from ..placement import Engine, check_engine
from .ledger import Ledger
from .ray_worker import Worker
from .shipment import Shipment

if TYPE_CHECKING:
    from ray.data import Dataset  # pyright: ignore[reportMissingImports]

__all__ = ["map_dataset"]

CALLS_AT_ONCE = 3
"""Tasks that an actor runs at a time, of `max_in_flight` rows or more: while the last rows of one are still in flight,
those of the next take their places."""


# Without Ray, which is an extra, `Dataset` is unknown.
def map_dataset(  # pyright: ignore[reportUnknownParameterType]
    dataset: Dataset,  # pyright: ignore[reportUnknownParameterType]
    program: Any,
    *,
    concurrency: int | tuple[int, int] = 1,
    max_in_flight: int = 100,
    inputs: Sequence[str] | None = None,
    on_error: OnError = "raise",
    progress: bool = True,
    engine: Engine = "auto",
    **options: Any,
) -> Dataset:
    """Get a Dataset with each row's columns and, beside them, what the program returns for that row.

    The Dataset is lazy, as all are: rows run when it is consumed. They run in actors of Ray Data, on event loops of
    their own. Each actor has a copy of the program in its present state, of its LMs, and of the caller's DSPy settings.
    LM limits (`limit()`, `limit_all()`) are divided: all actors together get what they allow. If an actor dies, Ray
    starts it again; it takes the results of rows that were finished from an actor that keeps them, and runs the others.

    A `dspy.Prediction` or a dict gives a column for each field, in place of an input column of that name; another
    result gives a column `result`. Rows come in Ray's order, which is not the input's unless Ray is told to keep it.

    Args:
        dataset: What to read rows from.
        program: A module, or any function, sync or async. Its class has to be importable where the actors run, or to be
            defined in `__main__`.
        concurrency: Actors; with a pair, at least and at most so many.
        max_in_flight: Rows that each actor has in flight.
        inputs: Columns that the program is called with; None: all.
        on_error: `"raise"`: an error ends the run. `"return"`: the text of the error stands in a column `error`, which
            is null for the other rows.
        progress: Whether to show a bar with finished rows, errors and tokens, beside those of Ray Data.
        engine: `"auto"`, `"loop"` or `"thread"`, see `run()`.
        **options: What `Dataset.map_batches` knows besides: `num_cpus=0.5`, `memory=...`, `runtime_env=...`.

    Returns:
        The new Dataset.

    Raises:
        MissingExtraError: If Ray is not installed.
        LimitError: If an LM's limit is smaller than the number of actors.
        ShippingError: If the program, an LM or a setting of DSPy cannot be sent to another process.
        UnknownEngineError: For an unknown engine.

    Example:
        ```python no-run
        # not run: it starts Ray
        import dspy
        import ray
        from dspy_parallel.ray import map_dataset

        dspy.configure(lm=dspy.LM("openai/any-model"))
        questions = ray.data.read_parquet("questions.parquet")
        answers = map_dataset(questions, dspy.Predict("question -> answer"), concurrency=4, max_in_flight=200)
        answers.write_parquet("answers")
        ```
    """
    try:
        ray: Any = importlib.import_module("ray")
        compute: Any = importlib.import_module("ray.data").ActorPoolStrategy
    except ImportError as exc:
        raise MissingExtraError(f"map_dataset() needs Ray. Install it with: {installation('ray')}.") from exc
    check_engine(engine)
    if max_in_flight < 1:
        raise ValueError(f"max_in_flight is {max_in_flight}; at least one row has to be in flight.")
    if on_error not in ("raise", "return"):
        raise ValueError(f'on_error is {on_error!r}; it is either "raise" or "return".')
    least, most = (concurrency, concurrency) if isinstance(concurrency, int) else concurrency
    shipment = Shipment.of(program)
    shipment.check(most)
    # Beside the caller, so that a node of actors that is lost does not take it along.
    here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
        ray.get_runtime_context().get_node_id(), soft=True
    )
    ledger = (
        ray.remote(Ledger)
        .options(num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy=here)
        .remote(shipment.title if progress else None)
    )
    return dataset.map_batches(
        Worker,
        batch_size=max_in_flight,
        batch_format="pyarrow",
        compute=compute(
            min_size=least,
            max_size=most,
            max_concurrent_calls_per_actor=CALLS_AT_ONCE,
            enable_true_multi_threading=True,  # it calls us in the thread of the task, of which we need the name
        ),
        fn_constructor_kwargs={
            "shipment": shipment.packed(),
            "ledger": ledger,
            "workers": most,
            "max_in_flight": max_in_flight,
            "inputs": None if inputs is None else tuple(inputs),
            "on_error": on_error,
            "counts": progress,
            "engine": engine,
        },
        **options,
    )
