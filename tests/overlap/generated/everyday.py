"""Random lines as people write them: retries, validators, loggers, patterns, locks, attributes of predictions."""

from __future__ import annotations

from tests.overlap.generated.expressions import Expressions, Scope

__all__ = ["PREAMBLE", "Everyday"]

Lines = list[str]

PREAMBLE = """\
import ast
import contextlib
import hashlib
import io
import json
import logging
import os
import re
import threading
import time
from typing import Literal

WORD = re.compile(r"\\b[a-z]+\\b", re.IGNORECASE)
COUNTS = collections.Counter()
DIGITS = re.compile(r"(?P<first>\\d)\\d*")
LOCK = threading.Lock()
SAID = io.StringIO()
logger = logging.Logger("program")
logger.addHandler(logging.StreamHandler(SAID))


class Checked(pydantic.BaseModel):
    name: str
    size: int = pydantic.Field(default=0, le=40)

    @pydantic.field_validator("name")
    @classmethod
    def not_odd(cls, value):
        if value.endswith(("1", "3", "5")):
            raise ValueError(f"odd: {value}")
        return value.strip()

    @property
    def label(self):
        return f"{self.name} ({self.size})"


@contextlib.contextmanager
def stage(name):
    LOG.append(f"begin {name}")
    try:
        yield name
    finally:
        LOG.append(f"end {name}")


exec('''
def fetched(text, items=()):  # has no source that anybody could read
    LOG.append(f"fetched {text}")
    if items and len(text) % 2:
        items.append(text[:4])
    return text[::-1][:8]
''')


def even(args, pred):
    return float(len(pred.answer) % 2 == 0)


def parsed(text):
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        logger.debug("no JSON: %s", error.msg)
        return {"text": text}


def retried(fn):
    @functools.wraps(fn)
    def wrapper(*args, **kwargs):
        for attempt in range(2):
            try:
                return fn(*args, **kwargs)
            except Trouble as error:
                logger.info("attempt %d: %s", attempt, error)
        return "given up"

    return wrapper
"""


class Everyday:
    """Draws such statements and expressions.

    Attributes:
        e: The other expressions.
    """

    def __init__(self, expressions: Expressions) -> None:
        self.e = expressions

    def text(self, scope: Scope, depth: int) -> str:
        """A string."""
        e = self.e
        text = e.text(scope, depth - 1)
        options = [
            f'WORD.sub("-", {text})',
            f'" ".join(WORD.findall({text})[:3])',
            f'"/".join(DIGITS.split({text})[:3])',
            f'" ".join(m.group() for m in DIGITS.finditer({text}))',
            f'(DIGITS.search({text}) or WORD.match("red")).group(0)',
            f'(m.group("first") if (m := DIGITS.search({text})) else "none")' if not e._in_iterable else '"none"',
            f"hashlib.md5(({text}).encode()).hexdigest()[:6]",
            f"str(parsed({text}))",
            f"str([type(node).__name__ for node in ast.walk(ast.parse(repr({text})))][-2:])",
            f'json.dumps({{"text": {text}}})',
            f"type({text}).__name__",
            f"({text}).__class__.__name__",
            f'os.getenv("NOBODY_SETS_THIS", {text})',
            f'"%03d" % ({e.number(scope, 1)})',
            'f"{COUNT}"',
        ]
        options += [f"fetched({text})"] * e.chance(10)
        if scope.is_method:
            options += ["self.last", "self.last", f"self.careful({text})", "str(self.kept_one)"]
            options += [f"self.handlers.get({text}[-1:], self.quick)({e.text(scope, 1)})", f"self.remembered({text})"]
            options += [f"self.dig({text})"] * e.chance(30)
            options += [f"getattr(self, self.route(question={text}).kind)(question={e.text(scope, 1)}).answer"]
            options += [
                f"dspy.BestOfN(self.ask, N=2, reward_fn=even, threshold=1.0)(question={text}).answer"
            ] * e.chance(30)
            options += [f"str(self.entry({text}))"]
            options += [f"getattr(self, {e.pick('ask', 'think', 'rate')!r})(question={text}).answer"]
            options += [f'dspy.{e.pick("Predict", "ChainOfThought")}("question -> answer")(question={text}).answer']
        for name in scope.found:
            options += [f'getattr({name}, "note", "none")', f'{name}.get("note", "none")'] * 2
        return e.pick(*options)

    def statement(self, scope: Scope, number: int) -> Lines:
        """One that makes no new name, but for those with this number in them."""
        e = self.e
        options = [self._attribute, self._attribute, self._said, self._checked, self._retry, self._block, self._small]
        return e.pick(*options)(scope, number)

    def _attribute(self, scope: Scope, number: int) -> Lines:
        """Of `self` or of a prediction that need not be there yet."""
        e = self.e
        text = e.text(scope, 2)
        options = []
        for name in scope.found:
            options += [f"{name}.answer = {name}.answer.strip()", f"{name}.note = {text}", f'{name}["note"] = {text}']
            options += [f"{name}.answer += {text}", f"{name}.answer = {text}"]
        if scope.is_method:
            options += [f"self.last = {text}", 'self.last = "constant"', f"self.last += {text}", "self.total = 0"]
            options += [f"self.kept_one = self.ask(question={text})", f"self.total = {e.number(scope, 1)}"]
            options += ["self.kept_one.answer = self.last", f"self.memory[{text}] = self.last"]
        return [e.pick(*options)] if options else self._said(scope, number)

    def _said(self, scope: Scope, number: int) -> Lines:
        e = self.e
        text = e.text(scope, 2)
        options = [
            f"logger.info('%s', {text})",
            f"logger.warning({text})",
            f"print({text})",
            f"print(*{e.few(scope, 1)})",
        ]
        return [e.pick(*options)]

    def _checked(self, scope: Scope, number: int) -> Lines:
        """A model with a validator, which may refuse."""
        e = self.e
        name = f"checked{number}"
        lines = ["try:", f"    {name} = Checked(name={e.text(scope, 2)}, size={e.number(scope, 2)})"]
        lines += [f"    noted({name}.label)"] * e.chance(60) + [f"    {name}.size += 1"] * e.chance(20)
        caught = e.pick("ValueError", "pydantic.ValidationError", "Exception")
        lines += [f"except {caught} as error:", f"    {e.pick('noted(type(error).__name__)', 'pass', self._logged)}"]
        return [*lines, "else:", f"    LOG.append({name}.name)"] if e.chance(40) else lines

    _logged = 'logger.error(f"refused: {type(error).__name__}")'

    def _retry(self, scope: Scope, number: int) -> Lines:
        """Attempts until one is good enough; what raises is known only with the reply."""
        e = self.e
        turn, feedback, result = f"turn{number}", f"feedback{number}", f"result{number}"
        inside = scope.with_name("text", feedback)
        question = f"{e.text(inside, 1)} + {feedback}"
        asked = f"{e.pick('self.rate', 'self.ask', 'self.think')}(question={question})" if scope.is_method else None
        lines = [f'{feedback}, {result} = "", "none"', f"for {turn} in range({e.pick(2, 3)}):", "    try:"]
        lines += [f"        {result} = {asked}.answer"] if asked else [f"        {result} = shout({question})"]
        problem = e.pick(f"{result} < {e.text(inside, 1)}", e.truth(inside, 2), f"len({result}) % 2 == {turn} % 2")
        lines += [f"        if {problem}:", f"            raise Trouble({e.pick(result, feedback, repr('bad'))})"]
        lines += [f"        {e.pick('break', 'break', f'LOG.append({result})')}"]
        lines += [f"    except {e.pick('Trouble', 'Exception', '(Trouble, ValueError)')} as error:"]
        lines += [f"        {feedback} = f'{{{turn}}}: {{error}}'"]
        lines += ["        logger.warning('again: %s', error)"] * e.chance(50) + ["        continue"] * e.chance(20)
        lines += ["else:", f"    {result} = {feedback}"] if e.chance(25) else []
        return [*lines, f"noted({result})"] if e.chance(60) else lines

    def _block(self, scope: Scope, number: int) -> Lines:
        """A `with` of something else than an LM."""
        e = self.e
        settings = "show_guidelines=False", "cache=False", "track_usage=False", "temperature=0.3"
        head = e.pick(
            "LOCK",
            f"stage({e.text(scope, 1)}) as name{number}",
            "contextlib.suppress(Trouble)",
            f"dspy.context({e.pick(*settings)})",
            f"dspy.settings.context({e.pick(*settings)}, lm=OTHER)",
            "contextlib.nullcontext()",
        )
        body = self._attribute(scope, number) if e.chance(50) else [f"LOG.append({e.text(scope, 2)})"]
        if "suppress" in head and e.chance(60):
            body += [f"if {e.truth(scope, 2)}: raise Trouble({e.text(scope, 1)})", "LOG.append('went on')"]
        return [f"with {head}:", *(f"    {line}" for line in body)]

    def _small(self, scope: Scope, number: int) -> Lines:
        e = self.e
        options = [
            [f"COUNTS[{e.text(scope, 1)}] += 1", "LOG.append(COUNTS.most_common(1))"],
            [f"COUNTS.update({e.few(scope, 1)})", "logger.info('%s', {name: n + 1 for name, n in COUNTS.items()})"],
            [f"if time.time() < 0: LOG.append({e.text(scope, 1)})"],
            ["from itertools import islice", f"LOG.append(list(islice({e.few(scope, 1)}, 2)))"],
            [f"key{number}, value{number} = {e.text(scope, 1)}, {e.text(scope, 1)}", f"LOG.append(value{number})"],
            [f"if hasattr(dspy.settings, 'no_such_setting'): LOG.append({e.text(scope, 1)})"],
        ]
        if scope.is_method:
            route, entry = f"route{number}", f"entry{number}"
            asked = f"getattr(self, {route}.kind)(question={e.text(scope, 1)}).answer"
            options += [[f"{route} = self.route(question={e.text(scope, 1)})", f"LOG.append({asked})"]]
            entered = [f"{entry} = self.entry({e.text(scope, 1)})", f'{entry}["more"] = {e.text(scope, 2)}']
            caught = [
                "try:",
                f"    {entered[0]}",
                "except Trouble:",
                f"    {'continue' if scope.in_loop else entry + ' = {}'}",
            ]
            kept = f"self.memory[{entry}.get('text', '')[-1:]] = {entry}"
            options += [[*entered, f"LOG.append({entry})"], [*caught, entered[1], f"LOG.append({entry})"]]
            options += [[*entered, kept, f'{entry}["late"] = {e.text(scope, 1)}']]
        for name in scope.texts:
            options += [[f"LOG.append(fetched({e.text(scope, 1)}, {name}))"]] * e.chance(30)
        if len(scope.text) > 1:
            first, second = scope.text[-2:]
            options += [[f"{first}, {second} = {second}, {first}"]] * 2
        return e.pick(*options)
