"""`diagnose()`: what in a program blocks, fails or keeps it from running in parallel, with file and line."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

from .findings import Finding, Findings

__all__ = ["Finding", "diagnose"]


def diagnose(target: Any, *, inputs: Mapping[str, Any] | None = None) -> list[Finding]:
    """What in a program blocks, fails or keeps it from running in parallel, with file and line.

    The source is read, and so are the helpers that it calls; nothing is run, unless there are `inputs`. Then the
    program runs once, in this thread, which must have no running event loop, against the LM that is configured.

    Args:
        target: A `dspy.Module` class or instance, a LangGraph (builder or compiled), a FastAPI app, or a function; or
            an imported Python module, of which all of these are looked at.
        inputs: Keyword arguments to run it with, or a graph's state; None runs nothing.

    Returns:
        Findings, errors first, then by file and line; none if nothing is wrong.

    Raises:
        TargetError: If the target is no program, or cannot be run with these inputs.

    Example:
        ```python
        import dspy
        from dspy_parallel import diagnose

        class Answer(dspy.Module):
            def __init__(self):
                super().__init__()
                self.predict = dspy.Predict("question -> answer")

            def forward(self, question):
                return self.predict(question=question)

        (finding,) = diagnose(Answer)
        assert finding.kind == "forward-only"
        assert "@async_module" in finding.instead
        ```
    """
    from .diagnosis import examine
    from .target import as_target, targets_in  # they import DSPy, for which the command's --help need not wait

    targets = targets_in(target) if isinstance(target, ModuleType) else [as_target(target)]
    return Findings(examine(*targets, inputs=inputs).findings)
