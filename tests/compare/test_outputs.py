"""What counts as the same output."""

from __future__ import annotations

import dataclasses

import dspy
import pydantic

from dspy_parallel.compare.outputs import Difference, differences


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


def test_ids_that_a_library_makes_up_are_not_compared():
    assert list(differences(Item(name="x", id=1), Item(name="x", id=2))) == []
