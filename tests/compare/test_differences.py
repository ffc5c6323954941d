"""What counts as the same output."""

from __future__ import annotations

import dataclasses
import uuid

import dspy
import pydantic
import pytest

from dspy_parallel.compare.differences import Difference, differences


class Item(pydantic.BaseModel):
    name: str
    id: int = 0


@dataclasses.dataclass
class Pair:
    left: object
    right: object


class Plain:
    def __init__(self, value):
        self.value = value


class Odd:
    def __eq__(self, other):
        raise TypeError("no")

    def __repr__(self):
        return "Odd()"


def test_the_same_of_every_kind():
    def one():
        return [
            dspy.Prediction(answer="a", items=[Item(name="x")]),
            {"a": (1, 2.5, None), "b": Pair(Plain(1), {3})},
            ValueError("text"),
            Odd(),
        ]

    assert list(differences(one(), one())) == []


def test_differences_say_where():
    before = {"found": [dspy.Prediction(answer="a"), Pair(1, Plain(2))], "only": 1}
    after = {"found": [dspy.Prediction(answer="b"), Pair(1, Plain(3))], "other": 1}
    places = [difference.path for difference in differences(before, after)]
    assert places == ["['found'][0]['answer']", "['found'][1]['right']", "['only']", "['other']"]


def test_other_lengths_types_and_exceptions_differ():
    assert list(differences([1], [1, 2])) == [Difference("output", "[1]", "[1, 2]")]
    assert [d.path for d in differences(ValueError("a"), KeyError("a"))] == ["['raises']", "['text']"]
    assert len(list(differences("1", 1))) == 1


UUIDS = [str(uuid.UUID(int=(n << 96) | (4 << 76))) for n in range(6)]


@pytest.mark.parametrize("spelled", ["{}", "run-{}", "call_{}", "<Tool object at 0x7f00{:.8}>", "see {}."])
def test_ids_that_are_made_up_in_each_run_are_the_same_if_they_can_be_renamed(spelled):
    a, b, c, d = (spelled.format(text) for text in UUIDS[:4])
    assert list(differences({"call": a, "reply": [a, b], b: 1}, {"call": c, "reply": [c, d], d: 1})) == []
    (found,) = differences({"call": a, "reply": a}, {"call": c, "reply": d})
    assert found.path == "['reply']"
    assert list(differences(uuid.UUID(UUIDS[0]), uuid.UUID(UUIDS[1]))) == []


def test_an_id_that_is_data_is_compared():
    assert [found.path for found in differences(Item(name="x", id=1), Item(name="x", id=2))] == ["['id']"]


def test_messages_of_langchain_are_the_same_whatever_their_ids_are():
    messages = pytest.importorskip("langchain_core.messages")
    one, other = (messages.AIMessage("hello", id=id) for id in ("lc-1", "something"))
    assert list(differences([one], [other])) == []
