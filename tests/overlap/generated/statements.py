"""Random statements and bodies of functions, as lines of text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tests.overlap.generated.everyday import Everyday
from tests.overlap.generated.expressions import Expressions, Scope

__all__ = ["Statements"]

Lines = list[str]


def _indented(lines: Lines) -> Lines:
    return [f"    {line}" for line in lines]


class Statements:
    """Draws statements; each gives its lines, and the names that may be used from then on."""

    def __init__(self, expressions: Expressions, returned: str) -> None:
        self.e = expressions
        self.returned = returned
        """How a function's result is made of a string."""
        self._names = 0

    def body(self, scope: Scope, size: int) -> Lines:
        """A function's body, which always returns."""
        lines, scope = self.block(scope, size)
        return [*lines, f"return {self.returned.format(self.e.text(scope, 2))}"]

    def block(self, scope: Scope, size: int, least: int = 1) -> tuple[Lines, Scope]:
        """Some statements."""
        lines: Lines = []
        for _ in range(self.e.pick(*range(least, size + 1))):
            more, scope = self.statement(scope)
            lines += more
        return lines, scope

    def inner(self, scope: Scope, size: int = 3, *, loop: bool = False) -> Lines:
        """A nested block, whose new names are not certain to be there after it."""
        inside = replace(scope, nested=scope.nested + 1, in_loop=loop or scope.in_loop)
        lines, inside = self.block(inside, size)
        if inside.in_loop and self.e.chance(15):
            leave = self.e.pick("break", "continue")
            lines += [leave] if self.e.chance(30) else [f"if {self.e.truth(inside, 2)}:", f"    {leave}"]
        elif self.e.chance(6):
            lines.append(f"return {self.returned.format(self.e.text(inside, 1))}")
        return _indented(lines)

    def statement(self, scope: Scope) -> tuple[Lines, Scope]:
        e = self.e
        makers: list[Callable[[Scope], tuple[Lines, Scope]]] = [self._assign] * 6
        makers += [self._object] * 3 + [self._change] * 3 + [self._everyday] * 4
        makers += [self._mutate] * 3 + [self._augment, self._effect, self._unpack, self._alias]
        if scope.nested < 2:
            makers += [self._if, self._if, self._for, self._for, self._try, self._while, self._match, self._with]
        if scope.nested == 0:
            makers += [self._function]
        if e.chance(2) and not e.is_calm:
            makers = [self._fail]
        return e.pick(*makers)(scope)

    def _fresh(self, kind: str) -> str:
        self._names += 1
        return f"{kind}{self._names}"

    def _value(self, kind: str, scope: Scope, depth: int = 3) -> str:
        return {
            "text": self.e.text,
            "number": self.e.number,
            "truth": self.e.truth,
            "texts": self.e.texts,
            "table": self.e.table,
            "found": self.e.prediction,
        }[kind](scope, depth)

    def _everyday(self, scope: Scope) -> tuple[Lines, Scope]:
        self._names += 1
        return Everyday(self.e).statement(scope, self._names), scope

    # Names

    def _assign(self, scope: Scope) -> tuple[Lines, Scope]:
        kinds = ("text", "text", "texts", "texts", "number", "truth", "table", "found", "found", "found")
        kind = self.e.pick(*kinds) if scope.is_method else self.e.pick("text", "texts", "number", "truth", "table")
        known: tuple[str, ...] = getattr(scope, kind)
        name = self.e.pick(*known) if known and self.e.chance(25) else self._fresh(kind)
        return [f"{name} = {self._value(kind, scope)}"], scope.with_name(kind, name)

    def _unpack(self, scope: Scope) -> tuple[Lines, Scope]:
        first, rest = self._fresh("text"), self._fresh("texts")
        if self.e.chance(50):
            line = f'{first}, *{rest} = {self.e.texts(scope, 2)} or ["nothing"]'
            return [line], scope.with_name("text", first).with_name("texts", rest)
        second = self._fresh("text")
        line = f"{first}, {second} = {self.e.text(scope, 2)}, {self.e.text(scope, 2)}"
        return [line], scope.with_name("text", first).with_name("text", second)

    def _alias(self, scope: Scope) -> tuple[Lines, Scope]:
        if not scope.texts:
            return self._assign(scope)
        name = self._fresh("texts")
        if self.e.chance(40):
            box = self._fresh("box")
            lines = [f"{box} = {{'inside': {self.e.pick(*scope.texts)}}}", f"{name} = {box}['inside']"]
        else:
            lines = [f"{name} = {self.e.pick(*scope.texts)}"]
        return lines, scope.with_name("texts", name)

    def _augment(self, scope: Scope) -> tuple[Lines, Scope]:
        if scope.texts and self.e.chance(50):
            return [f"{self.e.pick(*scope.texts)} += {self.e.few(scope, 2)}"], scope
        if scope.number and self.e.chance(50):
            return [f"{self.e.pick(*scope.number)} {self.e.pick('+', '-')}= {self.e.number(scope, 2)}"], scope
        if scope.text:
            return [f"{self.e.pick(*scope.text)} += {self.e.text(scope, 2)}"], scope
        return self._assign(scope)

    def _mutate(self, scope: Scope) -> tuple[Lines, Scope]:
        e = self.e
        if scope.table and e.chance(35):
            name = e.pick(*scope.table)
            change = e.pick(
                f'{name}["{e.pick("a", "b", "red")}"] = {e.text(scope, 3)}',
                f"{name}.update({e.table(scope, 1)})",
                f'{name}.setdefault("c", {e.text(scope, 2)})',
                f'{name}.pop("a", None)',
            )
            return [change], scope
        if not scope.texts:
            return self._assign(scope)
        name = e.pick(*scope.texts)
        change = e.pick(
            f"{name}.append({e.text(scope, 3)})",
            f"{name}.append({e.text(scope, 3)})",
            f"{name}.extend({e.few(scope, 2)})",
            f"{name}.insert(0, {e.text(scope, 2)})",
            f"{name}.sort(key=len)",
            f"{name}.reverse()",
            f"{name}[:] = {name}[:2]",
            f"{name}[0:1] = [{e.text(scope, 2)}]",
            f"del {name}[2:]",
            f"{name}.clear()" if e.chance(30) else f"{name}.append('x')",
            f"{name}.pop()" if e.chance(30) else f"{name}.append('y')",
        )
        return [change], scope

    # Objects, iterators, functions in lists

    def _object(self, scope: Scope) -> tuple[Lines, Scope]:
        e = self.e
        kind = e.pick("notes", "items", "streams", "views", "kept", "histories", "texts")
        name = self._fresh(kind[:-1])
        inner = scope.with_name("text", "each")
        answer = f"self.ask(question={e.text(scope, 1)}).answer" if scope.is_method else e.text(scope, 1)
        options: dict[str, list[str]] = {
            "notes": [f"Note({e.text(scope, 2)})", f"Note({answer}, {e.few(scope, 1)})"],
            "items": [f"Item(name={e.text(scope, 2)})", f"Item(name={answer}, tags={e.few(scope, 1)})"],
            "streams": [
                f"iter({e.few(scope, 2)})",
                f"({e.text(inner, 2)} for each in {e.few(scope, 1)})",
                f"map(lambda each: {e.text(inner, 1)}, {e.few(scope, 1)})",
                f"filter(None, {e.few(scope, 1)})",
                f"itertools.chain({e.few(scope, 1)}, {e.few(scope, 1)})",
            ],
            "views": [f"{e.pick(*(scope.table or ('SHARED',)))}.{e.pick('values()', 'keys()', 'items()')}"],
            "kept": [f"[lambda each: {e.text(inner, 2)}]", f"[shout, lambda each: {e.text(inner, 2)}]"],
            "histories": ["dspy.History(messages=[])"],
            "texts": ['SHARED["list"]'],
        }
        if scope.is_method:
            options["items"].append(f"self.extract(question={e.text(scope, 1)}).item")
            options["texts"] += ["self.state", 'self.memory["list"]', "self.stores[0].list()"]
        return [f"{name} = {e.pick(*options[kind])}"], scope.with_name(kind, name)

    def _change(self, scope: Scope) -> tuple[Lines, Scope]:
        """Of what others may have by another name."""
        e = self.e
        text = e.text(scope, 2)
        options = [f'SHARED["a"] = {text}', f'SHARED["list"].append({text})', f"add(LOG, {text})"]
        options += [f'operator.setitem(SHARED, "a", {text})', 'SHARED["list"].clear()']
        if scope.is_method:
            options += [f'self.memory["a"] = {text}', f'self.memory["list"].append({text})', f"add(self.state, {text})"]
            options += [f"self.stores[0].add({text})", f"for each in self.stores: each.add({text})"]
            options += ["self.stores.append(Store())", "self.pair.reverse()", f"self.state += [{text}]"]
            changes = [
                f"self.ask.demos.append(dspy.Example(question={e.text(scope, 0)}, answer='x').with_inputs('question'))",
                "self.ask.demos = []",
                'self.ask.config["temperature"] = 0.5',
                "self.ask, self.think = self.think, self.ask",
            ]
            options += changes if e.chance(15) else []
        for name in scope.notes:
            options += [f"{name}.text = {text}", f"{name}.update({text})", f"{name}.tags.append({text})"]
        for name in scope.items:
            options += [f"{name}.name = {text}", f"{name}.tags.append({text})"]
        for name in scope.histories:
            options += [f'{name}.messages.append({{"question": "q", "answer": {text}}})'] * 2
        for name in scope.kept:
            options += [f"{name}.append(lambda each: each + {e.text(scope, 0)})"]
        for name in scope.streams:
            options += [f"for each in {name}:\n    noted(each)\n    break"]
        return e.pick(*options).split("\n"), scope

    # Effects

    def _effect(self, scope: Scope) -> tuple[Lines, Scope]:
        e = self.e
        options = [f"noted({e.text(scope, 2)})", f"LOG.append({e.text(scope, 1)})"]
        if scope.is_method:
            options += [
                f"self.state.append({e.text(scope, 2)})",
                f"self.total += {e.number(scope, 1)}",
                f"self.state = {e.texts(scope, 1)}",
                "self.bump()",
                f"{e.prediction(scope, 2)}",
            ]
        return [e.pick(*options)], scope

    def _fail(self, scope: Scope) -> tuple[Lines, Scope]:
        raising = self.e.pick(
            f"raise Trouble({self.e.text(scope, 1)})",
            f"raise ValueError({self.e.text(scope, 1)})",
            f"assert {self.e.truth(scope, 2)}, {self.e.text(scope, 1)}",
            f"if {self.e.truth(scope, 2)}: raise Trouble({self.e.text(scope, 1)})",
            "int('no number')",
        )
        return [raising], scope

    # Blocks

    def _if(self, scope: Scope) -> tuple[Lines, Scope]:
        e = self.e
        if e.chance(20):
            name = self._fresh("text")
            lines = [f"if ({name} := {e.text(scope, 3)}):", *self.inner(scope.with_name("text", name))]
            return lines, scope.with_name("text", name)
        lines = [f"if {e.truth(scope, 3)}:", *self.inner(scope)]
        if e.chance(25):
            lines += [f"elif {e.truth(scope, 2)}:", *self.inner(scope)]
        if e.chance(50):
            lines += ["else:", *self.inner(scope)]
        return lines, scope

    def _for(self, scope: Scope) -> tuple[Lines, Scope]:
        e = self.e
        item, number = self._fresh("text"), self._fresh("number")
        inside = scope.with_name("text", item)
        heads = [f"for {item} in {e.few(scope, 2)}:", f"for {item} in [{e.text(scope, 2)}, {e.text(scope, 1)}]:"]
        counted = [
            f"for {number}, {item} in enumerate({e.few(scope, 2)}, start=1):",
            f"for {number}, {item} in zip(range(3), {e.few(scope, 1)}):",
        ]
        if scope.table:
            heads.append(f"for {item} in list({e.pick(*scope.table)}.values())[:3]:")
        if e.chance(30):
            head, inside = e.pick(*counted), inside.with_name("number", number)
        elif e.chance(20):
            head, inside = f"for {number} in range({e.pick(2, 3)}):", scope.with_name("number", number)
        else:
            head = e.pick(*heads)
        lines = [head, *self.inner(inside, loop=True)]
        if e.chance(15):
            lines += ["else:", *self.inner(scope, 2)]
        return lines, scope

    def _while(self, scope: Scope) -> tuple[Lines, Scope]:
        e = self.e
        number = self._fresh("number")
        scope = scope.with_name("number", number)
        condition = f"{number} < {e.pick(2, 3)}" + (f" and {e.truth(scope, 2)}" if e.chance(60) else "")
        # The counter has a name of its own, so that no statement of the body keeps it from its end.
        counter = f"turns{number}"
        head = [f"{counter} = {number} = 0", f"while {condition.replace(number, counter, 1)}:"]
        return [*head, f"    {counter} += 1", *self.inner(scope, 2, loop=True)], scope

    def _try(self, scope: Scope) -> tuple[Lines, Scope]:
        e = self.e
        caught = e.pick("Exception", "Exception", "Trouble", "(Trouble, ValueError)", "LMFailure")
        lines = ["try:", *self.inner(scope)]
        if e.chance(30) and not e.is_calm:
            lines.append(f"    {self._fail(scope)[0][0]}")
        lines += [f"except {caught} as error:", "    noted(f'caught {type(error).__name__}')", *self.inner(scope, 2)]
        if e.chance(20):
            lines += ["else:", *self.inner(scope, 2)]
        if e.chance(20):
            lines += ["finally:", f"    noted({e.text(scope, 1)})"]
        return lines, scope

    def _match(self, scope: Scope) -> tuple[Lines, Scope]:
        e = self.e
        name = self._fresh("text")
        subject = e.pick(f"({e.texts(scope, 2)})[:2]", f"({e.text(scope, 2)}).split()[:2]")
        with_name = scope.with_name("text", name)
        lines = [f"match {subject}:", "    case []:", *_indented(self.inner(scope, 2))]
        lines += [f"    case [{name}]:", *_indented(self.inner(with_name, 2))]
        if e.chance(50):
            lines += [f"    case [{name}, _] if {e.truth(with_name, 1)}:", *_indented(self.inner(with_name, 2))]
        return [*lines, "    case _:", *_indented(self.inner(scope, 2))], scope

    def _with(self, scope: Scope) -> tuple[Lines, Scope]:
        settings = "adapter=dspy.JSONAdapter()", "trace=[]", "track_usage=True", "rollout=1", "lm=OTHER"
        setting = self.e.pick(*settings)
        return [f"with dspy.context({setting}):", *self.inner(scope)], scope

    def _function(self, scope: Scope) -> tuple[Lines, Scope]:
        name, argument = self._fresh("local"), self._fresh("text")
        inside = replace(scope.with_name("text", argument), in_loop=False, nested=1)
        writer = Statements(self.e, "{}")
        writer._names = self._names
        body = writer.body(inside, 2)
        self._names = writer._names
        # What a closure assigns is its own: names of the enclosing function stay readable in it.
        lines = [f"def {name}({argument}):", *_indented(_own_names(body, scope))]
        return lines, replace(scope, functions=(*scope.functions, name))


def _own_names(body: Lines, scope: Scope) -> Lines:
    """Declare those names of the enclosing function nonlocal that the body assigns."""
    known = {*scope.text, *scope.number, *scope.truth, *scope.texts, *scope.table, *scope.found}
    known -= set(scope.functions)
    assigned = sorted(name for name in known if any(_assigns(line, name) for line in body))
    return [f"nonlocal {', '.join(assigned)}", *body] if assigned else body


def _assigns(line: str, name: str) -> bool:
    line = line.strip()
    return line.startswith((f"{name} = ", f"{name} += ", f"{name} -= ", f"{name}, ")) or f", {name} = " in line
