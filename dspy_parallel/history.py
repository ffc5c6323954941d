"""`own_history()`: the LM calls of one block of code, whoever else uses the LM."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import dspy

from . import seams
from .seams.own_histories import SETTING, open_histories

__all__ = ["own_history"]


@contextmanager
def own_history() -> Generator[list[dict[str, Any]]]:
    """Get the history entries of the LM calls that the block makes, and no others.

    `lm.history[-1]` is the last call of anybody; under concurrency that is rarely one's own. The block's list has the
    same entries in the same order as `lm.history`, that is, as the calls end; calls that fail or are cancelled have
    none. It follows DSPy's settings: into awaited programs, tasks, and the threads of the bridge, of
    `dspy.Parallel` and of `dspy.asyncify`, on any number of LMs. Blocks nest, and the outer one has the entries of
    the inner one, too. A task that outlives the block goes on adding to its list.

    `max_history_size` does not shorten the list. Under `disable_history` it stays empty.

    Yields:
        A list, filled as calls end.

    Example:
        ```python
        import dspy
        from dspy.utils import DummyLM
        from dspy_parallel import own_history

        lm = DummyLM([{"answer": "one"}, {"answer": "two"}])
        with dspy.context(lm=lm):
            dspy.Predict("question -> answer")(question="before")
            with own_history() as calls:
                dspy.Predict("question -> answer")(question="inside")
        assert calls == lm.history[1:]
        ```
    """
    seams.install()
    entries: list[dict[str, Any]] = []
    with dspy.context(**{SETTING: (*open_histories(), entries)}):
        yield entries
