"""Code interpreters that need no sandbox, which machines may lack."""

from __future__ import annotations

import contextlib
import inspect
import io
from typing import Any

import dspy


class LocalPython:
    """Runs code in this process and thread, with the interface of DSPy's interpreters."""

    def __init__(self) -> None:
        self.tools: dict[str, Any] = {}
        self.output_fields: Any = None

    def start(self) -> None:
        """Nothing to start."""

    def shutdown(self) -> None:
        """Nothing to end."""

    def execute(self, code: str, variables: dict[str, Any] | None = None) -> Any:
        """Run the code; give what it prints or submits."""
        submitted: list[Any] = []

        def submit(*values: Any, **named: Any) -> None:
            submitted.append(named or values[0])

        names = {"SUBMIT": submit, "final_answer": submit, **self.tools, **(variables or {})}
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(code, names)
        if not submitted:
            return out.getvalue()
        try:
            from dspy.primitives.code_interpreter import FinalOutput
        except ImportError:
            return submitted[0]
        return FinalOutput(submitted[0])

    __call__ = execute


def with_interpreter(cls: Any, *args: Any, interpreter: Any = LocalPython, **kwargs: Any) -> Any:
    """An instance of a module class that takes an interpreter, or from DSPy 3.3 on what makes one."""
    if "interpreter_factory" in inspect.signature(cls.__init__).parameters:
        return cls(*args, interpreter_factory=interpreter, **kwargs)
    return cls(*args, interpreter=interpreter(), **kwargs)


LOCAL_INTERPRETER: Any = getattr(dspy, "LocalInterpreter", None)
"""DSPy 3.4 and later: a subprocess with the same Python, no sandbox."""
