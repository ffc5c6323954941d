"""What stands in a patched function's place: looks, copies and pickles like the function itself.

wrapt forwards attributes, signature and binding. What is left to do is copying and pickling: a pickle that was
made while the patches are in place must be readable where this package is not even installed.
"""

from __future__ import annotations

import copy
import operator
import sys
from typing import Any

import wrapt

__all__ = ["Patch"]


class _Bound(wrapt.BoundFunctionWrapper):  # type: ignore[type-arg]
    """A patched method, looked up on an instance or on the class."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        instance = self._self_instance
        return self if instance is None else getattr(copy.deepcopy(instance, memo), self.__name__)

    def __copy__(self) -> Any:
        return self

    def __reduce_ex__(self, protocol: Any) -> Any:
        instance = self._self_instance
        if instance is None:
            instance = _owner(self._self_parent)
        return _by_value(self) if instance is None else (getattr, (instance, self.__name__))


class Patch(wrapt.FunctionWrapper):  # type: ignore[type-arg]
    """A patched function."""

    _self_seam: Any
    """The row of the table that it was made for."""

    __bound_function_wrapper__ = _Bound

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self

    def __copy__(self) -> Any:
        return self

    def __reduce_ex__(self, protocol: Any) -> Any:
        # A class is pickled as a whole, by its name or by value; what is in it must not refer back to it.
        owner = None if "." in self.__qualname__ else _owner(self)
        return _by_value(self) if owner is None else self.__qualname__


def _owner(patch: Any) -> Any:
    """The class or module in which the patch is found under its name."""
    owner: Any = sys.modules.get(patch.__module__)
    *path, name = patch.__qualname__.split(".")
    for step in path:
        owner = getattr(owner, step, None)
    return owner if getattr(owner, "__dict__", {}).get(name) is patch else None


def _by_value(wrapper: Any) -> Any:
    """Have the function itself pickled in the wrapper's place."""
    return operator.getitem, ((wrapper.__wrapped__,), 0)
