"""`status()`: what is bridged in this process, where it runs, and why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import dspy

from .analysis.places import package_of
from .analysis.thread_needs import decided
from .display import Line, Shown
from .escapes import escaped
from .limits import Limit
from .limits.assignment import counting_limits
from .placement import PINNED_TO_LOOP, PINNED_TO_THREAD, Placement
from .programs import placement_of
from .seams.table import is_installed

__all__ = ["ModuleStatus", "Status", "status"]


@dataclass(frozen=True)
class ModuleStatus:
    """A class of modules that can be awaited.

    Attributes:
        name: Its full name.
        engine: What was asked for.
        overlap: Whether calls inside one `forward()` overlap.
        placement: Where its programs run, and why.
    """

    name: str
    engine: str
    overlap: bool
    placement: Placement


@dataclass(frozen=True)
class Status(Shown):
    """What `status()` found. `str()` is to be read; so are what rich prints and a notebook shows.

    Attributes:
        patched: Whether DSPy's waits are on the event loop, for programs that are bridged.
        modules: Classes with an `acall()` of ours; not those of DSPy itself.
        programs: Functions and nodes that ran with `engine="auto"`.
        limits: The limits of LMs that there are.
    """

    patched: bool
    modules: list[ModuleStatus]
    programs: list[Placement]
    limits: list[Limit]

    def _lines(self) -> Iterator[Line]:
        yield [
            ("Bridged programs wait on the event loop." if self.patched else "Nothing has been bridged yet.", "bold")
        ]
        rows = [(each.name, _asked(each), each.placement) for each in self.modules]
        rows += [(placement.name, "", placement) for placement in self.programs]
        names = max((len(escaped(name)) for name, _, _ in rows), default=0)
        asked = max((len(text) for _, text, _ in rows), default=0)
        for name, text, placement in rows:
            kind = "module" if text else "node"
            yield [(f"  {escaped(name):<{names}}  ", kind), (f"{text:<{asked}}  ", "dim"), *placement.pieces()]
        for limit in self.limits:
            yield [("  ", ""), *limit.pieces()]


def status() -> Status:
    """What is bridged in this process, where it runs, and why.

    Looks at what is there; runs nothing, and can be called from any thread.

    Returns:
        Module classes that were decorated, or covered by `install()`; functions and nodes that ran; and limits.

    Example:
        ```python
        import dspy
        from dspy_parallel import async_module, status

        @async_module
        class Answer(dspy.Module):
            def __init__(self):
                super().__init__()
                self.ask = dspy.Predict("question -> answer")

            def forward(self, question):
                return self.ask(question=question)

        (answer,) = [each for each in status().modules if each.name.endswith("Answer")]
        assert answer.engine == "auto"
        print(status())
        ```
    """
    modules = sorted(_modules(), key=lambda each: each.name)
    of_modules = {id(each.placement) for each in modules}
    programs = [placement for placement in decided() if id(placement) not in of_modules]
    return Status(is_installed(), modules, programs, counting_limits())


def _asked(module: ModuleStatus) -> str:
    return f'engine="{module.engine}"' + (", overlap=True" if module.overlap else "")


def _modules() -> Iterator[ModuleStatus]:
    todo: list[type] = list(dspy.Module.__subclasses__())
    seen: set[type] = set()
    while todo:
        cls = todo.pop()
        if cls in seen:
            continue
        seen.add(cls)
        todo += cls.__subclasses__()
        if package_of(cls) == "dspy":
            continue
        made = getattr(cls, "aforward", None) or getattr(cls, "acall", None)
        engine = getattr(made, "__bridge_engine__", None)
        if engine is not None:
            fixed = {"loop": PINNED_TO_LOOP, "thread": PINNED_TO_THREAD}.get(engine)
            overlap = hasattr(getattr(cls, "forward", None), "__overlap_original__")
            yield ModuleStatus(f"{cls.__module__}.{cls.__qualname__}", engine, overlap, fixed or placement_of(cls))
