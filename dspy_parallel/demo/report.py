"""The demo's result, as lines for people and as data for programs."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from .measure import AFTER, BEFORE, Comparison, Run

__all__ = ["Line", "as_data", "axis", "bar", "lines", "summary"]

Line = list[tuple[str, str]]
"""Pieces of text, each with a style: one of "", "bold", "dim", "before", "after", "good", "bad"."""

_EIGHTHS = " ▏▎▍▌▋▊▉█"


def bar(start: float, end: float, span: float, width: int, *, unicode: bool = True) -> str:
    """A bar on an axis of `width` columns that stands for `span` seconds.

    Args:
        start: Seconds; the column it begins in is rounded.
        end: Seconds.
        span: Seconds.
        width: Columns.
        unicode: Whether to use block characters, which show the length to an eighth of a column; else "#".
    """
    first = round(start / span * width)
    length = max(end - start, 0.0) / span * width
    if not unicode:
        return " " * first + "#" * max(round(length), 1)
    whole, eighth = divmod(max(round(length * 8), 1), 8)
    return " " * first + "█" * whole + _EIGHTHS[eighth].strip()


def axis(span: float, width: int) -> str:
    """Marks at round numbers of seconds; each number stands where its moment is."""
    steps = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)
    step = next((s for s in steps if span / s <= 6), 1000)
    marks = [" "] * (width + 8)
    for count in range(int(span / step) + 1):
        mark = f"{count * step:g}" + (" s" if count == 0 else "")
        at = round(count * step / span * width)
        marks[at : at + len(mark)] = mark
    return "".join(marks).rstrip()


def lines(number: int, compared: Comparison, width: int, *, unicode: bool = True) -> Iterator[Line]:
    """Both timelines of one question, the answers side by side, the query, and what it comes to."""
    yield [(f"{number}. {compared.question.text}", "bold")]
    yield []
    span = max(compared.before.seconds, compared.after.seconds)
    labels = {c.extractor: f"  {c.extractor:<9}{_shortened(c.model, 13):<14}" for c in compared.before.calls}
    margin = max(len(label) for label in labels.values())
    columns = width - margin - 9
    for title, style, run in ((BEFORE, "before", compared.before), (AFTER, "after", compared.after)):
        yield [(f"{title:<{width - 8}}", "bold"), (f"{run.seconds:6.2f} s", "bold")]
        for call in run.calls:
            drawn = bar(call.start, call.end, span, columns, unicode=unicode)
            yield [(labels[call.extractor], ""), (f"{drawn:<{columns + 1}}", style), (f"{call.seconds:6.2f} s", "dim")]
    yield [(" " * margin + axis(span, columns), "dim")]
    yield []
    yield from _side_by_side(compared, width)
    yield []
    yield from _query(compared.before, "" if compared.same else f" ({BEFORE})", width)
    if not compared.same:
        yield from _query(compared.after, f" ({AFTER})", width)
    yield []
    yield [
        (f"{compared.ratio:.2f} times as fast. ", "good" if compared.ratio > 1 else "bad"),
        (f"Longest single call {compared.longest_call:.2f} s; the parallel run {compared.overhead:+.1%}. ", ""),
        ("", "") if compared.same else ("The answers differ.", "bad"),
    ]


def _shortened(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 2] + ".."


def _side_by_side(compared: Comparison, width: int) -> Iterator[Line]:
    half = (width - 11 - 5) // 2
    yield [(f"  {'answers':<9}", "bold"), (f"{BEFORE:<{half}}", "before"), ("     ", ""), (AFTER, "after")]
    for extractor, found in compared.before.answers.items():
        other = compared.after.answers[extractor]
        left, right = _cell(found, half), _cell(other, half)
        height = max(len(left), len(right))
        same = found == other
        for row in range(height):
            yield [
                (f"  {extractor if row == 0 else '':<9}", ""),
                (f"{left[row] if row < len(left) else '':<{half}}", ""),
                ("  =  " if same else " !=  ", "dim" if same else "bad") if row == 0 else ("     ", ""),
                (right[row] if row < len(right) else "", ""),
            ]


def _cell(found: Sequence[Any], width: int) -> list[str]:
    return [row for item in found for row in textwrap.wrap(str(item), width)] or ["none"]


def _query(run: Run, which: str, width: int) -> Iterator[Line]:
    query = run.extraction.query
    yield [(f"  Cypher{which}", "bold")]
    for text in query.text.splitlines():
        yield [(f"    {text}", "")]
    values = [f"${name} = {value!r}" for name, value in query.parameters.items()]
    if query.search_text is not None:
        values.append(f"$search_vector = embedding of {query.search_text!r}")
    # Lines break between values, not in them.
    joined = ", ".join(value.replace(" ", "\0") for value in values)
    for text in textwrap.wrap(joined, width - 4, break_long_words=False):
        yield [("    " + text.replace("\0", " "), "dim")]
    for reason in query.rejected:
        yield [(f"    left out: {reason}", "bad")]


def summary(compared: Sequence[Comparison]) -> Line:
    """One line about all questions."""
    before, after = _seconds(compared)
    questions = f"{len(compared)} question{'s' if len(compared) > 1 else ''}"
    different = [str(number) for number, c in enumerate(compared, 1) if not c.same]
    times = f"{before:.2f} s {BEFORE}, {after:.2f} s {AFTER}, {before / after:.2f} times as fast. "
    if different:
        return [(f"{questions}: {times}", "bold"), (f"The answers differ in question {', '.join(different)}.", "bad")]
    return [(f"{questions}: {times}", "bold"), ("All answers are the same.", "good")]


def _seconds(compared: Sequence[Comparison]) -> tuple[float, float]:
    return sum(c.before.seconds for c in compared), sum(c.after.seconds for c in compared)


def as_data(compared: Sequence[Comparison]) -> dict[str, Any]:
    """The same as plain data; times in seconds."""
    before, after = _seconds(compared)
    return {
        "same": all(c.same for c in compared),
        "seconds": {"before": before, "after": after},
        "ratio": before / after,
        "questions": [
            {
                "question": c.question.text,
                "selected_label": c.question.selected_label,
                "same": c.same,
                "ratio": c.ratio,
                "longest_call": c.longest_call,
                "overhead": c.overhead,
                "before": _run_as_data(c.before),
                "after": _run_as_data(c.after),
            }
            for c in compared
        ],
    }


def _run_as_data(run: Run) -> dict[str, Any]:
    query = run.extraction.query
    return {
        "seconds": run.seconds,
        "calls": [{"extractor": c.extractor, "model": c.model, "start": c.start, "end": c.end} for c in run.calls],
        "answers": {name: [item.model_dump() for item in found] for name, found in run.answers.items()},
        "cypher": query.text,
        "parameters": query.parameters,
        "search_text": query.search_text,
        "rejected": list(query.rejected),
    }
