"""When an async method may stand in for a sync one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from dspy_parallel.seams.async_counterparts import is_counterpart, refuses


class Refusing:
    async def bare(self) -> None:
        raise NotImplementedError

    async def with_text(self) -> None:
        """Docstring."""
        raise NotImplementedError("There is no async side.")

    async def with_formatted_text(self, key: str) -> None:
        raise NotImplementedError(f"{type(self).__name__} has no async side for {key.upper()}")

    async def with_text_made_before(self) -> None:
        message = " ".join([self.__class__.__name__, "has no async side"])
        raise NotImplementedError(message)

    async def one_of_two(self) -> None:
        if vars(self):
            raise NotImplementedError("one")
        raise NotImplementedError("two")

    async def iterator(self) -> AsyncIterator[int]:
        raise NotImplementedError(f"{self} has no async side")
        yield 1

    def sync(self) -> None:
        raise NotImplementedError


class Working:
    kind = ""

    async def sometimes(self) -> int:
        if not self.kind:
            raise NotImplementedError("Choose a kind.")
        return 1

    async def nothing_to_return(self) -> None:
        if not self.kind:
            raise NotImplementedError

    async def waits(self) -> None:
        await self.sometimes()
        raise NotImplementedError

    async def iterator(self) -> AsyncIterator[int]:
        yield 1
        raise NotImplementedError

    async def handles(self) -> int:
        try:
            return await self.sometimes()
        except NotImplementedError:
            return 0

    async def other_error(self) -> None:
        raise ValueError


@pytest.mark.parametrize("cls", [Refusing, Working])
def test_refuses(cls: Any) -> None:
    names = [name for name in vars(cls) if callable(getattr(cls, name)) and not name.startswith("__")]
    assert len(names) >= 6
    assert {name: refuses(cls, name) for name in names} == dict.fromkeys(names, cls is Refusing)
    assert not refuses(cls, "kind")
    assert not refuses(cls, "missing")


def test_is_twin() -> None:
    class Base:
        def get(self) -> None: ...

        async def aget(self) -> None: ...

    class SyncOverride(Base):
        def get(self) -> None: ...

    class Both(SyncOverride):
        async def aget(self) -> None: ...

    class Refuses(SyncOverride):
        async def aget(self) -> None:
            raise NotImplementedError("no")

    class Inherits(Refuses):
        pass

    assert [is_counterpart(cls, "get", "aget") for cls in (Base, SyncOverride, Both, Refuses, Inherits)] == [
        True,
        False,
        True,
        False,
        False,
    ]
