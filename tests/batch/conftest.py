"""A stub LM as DSPy's LM."""

from __future__ import annotations

from collections.abc import Iterator

import dspy
import pytest

from tests.batch.programs import StubLM


@pytest.fixture
def lm() -> Iterator[StubLM]:
    stub = StubLM()
    with dspy.context(lm=stub):
        yield stub
