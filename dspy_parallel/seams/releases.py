"""Which releases of others' packages are installed here, and what a release was to have and has not."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import re
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Protocol

__all__ = ["Requirement", "is_expected", "is_initializing", "is_there", "named", "release_of", "unmet"]


class Requirement(Protocol):
    """A name that we rely on.

    Attributes:
        target: `"package.module:name"` or `"package.module:Class.method"`.
        since: The first release that has it; of Python, for its own library.
        until: The first that has it no more, or makes no use of it.
    """

    @property
    def target(self) -> str:
        """See above."""
        ...

    @property
    def since(self) -> str:
        """See above."""
        ...

    @property
    def until(self) -> str:
        """See above."""
        ...


_DISTRIBUTIONS = {
    "langchain_core": "langchain-core",
    "langgraph.cache": "langgraph-checkpoint",
    "langgraph.checkpoint": "langgraph-checkpoint",
    "langgraph.checkpoint.postgres": "langgraph-checkpoint-postgres",
    "langgraph.checkpoint.sqlite": "langgraph-checkpoint-sqlite",
    "langgraph.prebuilt": "langgraph-prebuilt",
    "langgraph.store": "langgraph-checkpoint",
    "langgraph.store.postgres": "langgraph-checkpoint-postgres",
    "langgraph.store.sqlite": "langgraph-checkpoint-sqlite",
}
"""What to install for a package, if it is not called like that; several share the name `langgraph`."""


def _distribution(module: str) -> str:
    """Of which distribution a module is, or would be; `Python`, of its own library."""
    package = module.partition(".")[0]
    if package in sys.stdlib_module_names:
        return "Python"
    while module and module not in _DISTRIBUTIONS:
        module = module.rpartition(".")[0]
    return _DISTRIBUTIONS.get(module, package)


def _numbers(release: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", release)[:3]))


@functools.cache
def release_of(module: str) -> tuple[int, ...] | None:
    """The release that a module is of, as numbers; None if it is not installed, or by no package manager."""
    distribution = _distribution(module)
    if distribution == "Python":
        return tuple(sys.version_info[:3])
    try:
        return _numbers(version(distribution))
    except PackageNotFoundError:
        return None


def named(module: str) -> str:
    """A module's distribution with its release, for an error."""
    release = release_of(module)
    return _distribution(module) + ("" if release is None else " " + ".".join(map(str, release)))


def is_expected(requirement: Requirement) -> bool:
    """Whether the release that is installed is to have it, as all releases do that nothing is said of."""
    module = requirement.target.partition(":")[0]
    release = release_of(module)
    if release is None:  # not installed, or by no package manager: then it says nothing of its release
        return not requirement.since and (module in sys.modules or _distribution(module) == module.partition(".")[0])
    return (not requirement.since or release >= _numbers(requirement.since)) and (
        not requirement.until or release < _numbers(requirement.until)
    )


def is_there(target: str) -> bool:
    """Whether there is such a module, and such a name in it; as far as can be seen without an import."""
    name, _, path = target.partition(":")
    found: object = sys.modules.get(name)
    if found is None:
        # Nothing is imported here, as parents would be: another thread may be at it, and wait for us.
        return name.rpartition(".")[0] not in sys.modules or importlib.util.find_spec(name) is not None
    for step in path.split("."):
        if isinstance(found, type) and not any(step in vars(cls) for cls in found.__mro__):
            return False  # other than by hasattr(), which finds what classes have of theirs: all can be called
        if not hasattr(found, step):
            return False
        found = getattr(found, step)
    return True


def is_initializing(module: object) -> bool:
    """Whether somebody is importing it now."""
    return bool(getattr(getattr(module, "__spec__", None), "_initializing", False))


def unmet(requirements: Iterable[Requirement]) -> Iterator[str]:
    """The targets that are missing from releases that were to have them, where the package is in use."""
    for each in requirements:
        module = each.target.partition(":")[0]
        package = module.partition(".")[0]
        # A package that was made at run time, as by tests and notebooks, need not have a module before it is imported.
        in_use = module in sys.modules or (package in sys.modules and release_of(module) is not None)
        if in_use and is_expected(each) and not is_there(each.target):
            yield each.target
