"""The merge step of the level agent: what fits the schema is in the query, what doesn't is reported."""

from __future__ import annotations

import pytest

from examples.level_agent import recorded
from examples.level_agent.cypher import compose
from examples.level_agent.filters import PropertyFilter, TimeFilter, VectorSearch
from examples.level_agent.graph_schema import LABELS

pytestmark = pytest.mark.once

RECORDING = recorded.load()
QUERIES = [
    """CALL db.index.vector.queryNodes('idea_description', $top_k, $search_vector) YIELD node AS n, score
WHERE n.created_at >= datetime($time_0) AND n.created_at < datetime($time_1) AND n.author = $value_0
RETURN n, score ORDER BY score DESC""",
    """CALL db.index.vector.queryNodes('task_description', $top_k, $search_vector) YIELD node AS n, score
WHERE n.due_at < datetime($time_0) AND n.status <> $value_0
RETURN n, score ORDER BY score DESC""",
    """CALL db.index.vector.queryNodes('document_content', $top_k, $search_vector) YIELD node AS n, score
WHERE n.published_at >= datetime($time_0) AND n.published_at < datetime($time_1) AND n.pages > $value_0
RETURN n, score ORDER BY score DESC""",
    """CALL db.index.vector.queryNodes('person_bio', $top_k, $search_vector) YIELD node AS n, score
WHERE n.joined_at >= datetime($time_0) AND n.team = $value_0
RETURN n, score ORDER BY score DESC""",
    """CALL db.index.vector.queryNodes('meeting_notes', $top_k, $search_vector) YIELD node AS n, score
WHERE n.starts_at >= datetime($time_0) AND n.starts_at < datetime($time_1) AND n.attendees > $value_0
RETURN n, score ORDER BY score DESC""",
    """MATCH (n:Idea)
WHERE n.updated_at < datetime($time_0) AND n.votes >= $value_0
RETURN n""",
    """MATCH (n:Document)
WHERE n.updated_at >= datetime($time_0) AND n.updated_at < datetime($time_1) \
AND n.confidential = $value_0 AND n.kind = $value_1 AND n.language = $value_2
RETURN n""",
    """CALL db.index.vector.queryNodes('task_description', $top_k, $search_vector) YIELD node AS n, score
WHERE n.due_at >= datetime($time_0) AND n.due_at < datetime($time_1)
RETURN n, score ORDER BY score DESC""",
    """CALL db.index.vector.queryNodes('idea_description', $top_k, $search_vector) YIELD node AS n, score
WHERE n.status = $value_0
RETURN n, score ORDER BY score DESC""",
    """MATCH (n:Task)
WHERE n.status = $value_0 AND n.priority = $value_1 AND n.assignee IN $value_2
RETURN n""",
]


@pytest.mark.parametrize("number", range(len(RECORDING.questions)))
def test_the_recorded_replies_give_the_right_query(number):
    question, replies = RECORDING.questions[number], RECORDING.replies[number]
    query = compose(
        LABELS[question.selected_label],
        [TimeFilter(**f) for f in replies["time"]["time_filters"]],
        [PropertyFilter(**f) for f in replies["non-time"]["property_filters"]],
        [VectorSearch(**s) for s in replies["vector"]["vector_searches"]],
    )
    assert query.text == QUERIES[number]
    assert query.rejected == ()
    assert all(f"${name}" in query.text for name in query.parameters)
    assert (query.search_text is not None) == ("$search_vector" in query.text)


def test_latencies_add_up_to_the_log_of_the_issue():
    assert sum(RECORDING.latency_seconds.values()) == pytest.approx(19.325 - 15.066)
    assert max(RECORDING.latency_seconds.values()) == pytest.approx(2.3, abs=0.05)


@pytest.mark.parametrize(
    ("operator", "property", "value", "reason"),
    [
        ("=", "colour", "red", "no property colour"),
        ("=", "created_at", "2025", "no property created_at"),
        ("=", "description", "onboarding", "no property description"),
        ("=", "n) DETACH DELETE n //", "x", "no property"),
        ("CONTAINS", "votes", 3, "CONTAINS does not apply to INTEGER"),
        ("=", "votes", "three", "'three' is not INTEGER"),
        ("=", "votes", True, "True is not INTEGER"),
        ("IN", "author", "Anna", "only IN, takes a list"),
        ("=", "author", ["Anna"], "only IN, takes a list"),
        ("=", "status", "done", "'done' is none of draft, proposed, accepted, rejected"),
        ("IN", "status", ["draft", "done"], "'done' is none of"),
    ],
)
def test_filters_that_do_not_fit_the_schema_are_left_out_and_reported(operator, property, value, reason):
    wrong = PropertyFilter(property=property, operator=operator, value=value)
    right = PropertyFilter(property="author", operator="=", value="Anna")
    query = compose(LABELS["Idea"], [], [wrong, right], [])
    assert query.text == "MATCH (n:Idea)\nWHERE n.author = $value_1\nRETURN n"
    assert query.parameters == {"value_1": "Anna"}
    assert len(query.rejected) == 1
    assert reason in query.rejected[0]


def test_time_filters_need_a_time_property_and_a_time():
    unknown = TimeFilter(property="author", operator=">", value="2025-01-01T00:00:00Z")
    vague = TimeFilter(property="created_at", operator=">", value="last week")
    query = compose(LABELS["Idea"], [unknown, vague], [], [])
    assert query.text == "MATCH (n:Idea)\nRETURN n"
    assert [
        next(reason for reason in ("no time property author", "not a date and time") if reason in rejected)
        for rejected in query.rejected
    ] == ["no time property author", "not a date and time"]


def test_searches_need_an_index_and_there_is_one_per_level():
    searches = [
        VectorSearch(property=p, query=q) for p, q in (("title", "a"), ("description", "b"), ("description", "c"))
    ]
    query = compose(LABELS["Idea"], [], [], searches)
    assert query.search_text == "b"
    assert query.text.count("CALL") == 1
    assert ["no vector index on title" in query.rejected[0], "one search" in query.rejected[1]] == [True, True]


def test_values_travel_as_parameters():
    hostile = PropertyFilter(property="author", operator="=", value="' OR 1=1 //")
    assert "1=1" not in compose(LABELS["Idea"], [], [hostile], []).text
