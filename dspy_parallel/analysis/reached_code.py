"""What the statements and expressions of a function may reach."""

from __future__ import annotations

import ast
import enum
import os
import sys
import types
from functools import partial
from typing import Any, TypeVar

from .abstract_values import DATA, NOTHING, ONLY_DATA, UNKNOWN, Closure, SuperOf, Value
from .harmless_calls import is_a, is_importable
from .match_patterns import match
from .reach import Arguments, Frame, Reach
from .reached_attributes import ask_truth, assign_attribute, attribute, operate, use_context
from .reached_calls import call, call_method
from .reached_classes import use_type
from .trusted_types import BOXES, is_heap_type

__all__ = ["new_reach"]

R = TypeVar("R", bound=Reach)


def new_reach(cls: type[R]) -> R:
    """A `Reach` that has found nothing yet."""
    reach = cls(lambda reach, frame: _Reader(reach, frame).read())
    reach.call = partial(call, reach)
    reach.use_type = partial(use_type, reach)
    return reach


class _Reader:
    """Looks at one function once."""

    def __init__(self, reach: Reach, frame: Frame) -> None:
        self.reach = reach
        self.frame = frame
        self.scopes = frame.scopes

    def read(self) -> None:
        node = self.frame.node
        if isinstance(node, ast.Lambda):
            self.reach.grow(self.frame.returns, self.value(node.body))
        else:
            self.block(node.body)

    def block(self, statements: list[ast.stmt]) -> None:
        for statement in statements:
            self.reach.step()
            handler = getattr(self, f"do_{type(statement).__name__}", None)
            if handler is None:
                self.need(statement, f"`{type(statement).__name__.lower()}` is not followed")
            else:
                handler(statement)

    def value(self, node: ast.expr | None) -> Value:
        if node is None:
            return NOTHING
        handler = getattr(self, f"of_{type(node).__name__}", None)
        if handler is None:
            return self.need(node, f"`{type(node).__name__.lower()}` is not followed")
        return handler(node)  # type: ignore[no-any-return]

    def need(self, node: ast.AST, what: str) -> Value:
        return self.reach.need(self.frame, node, "unread", what)

    def operate(self, node: ast.AST, *values: Value) -> Value:
        return operate(self.reach, self.frame, NOTHING.union(*values), node)

    def test(self, node: ast.expr) -> Value:
        ask_truth(self.reach, self.frame, found := self.value(node), node)
        return found

    def name_of(self, name: str) -> str:
        """The name as it stands in the object, not in the class: private names are mangled."""
        is_private = name.startswith("__") and not name.endswith("__") and self.frame.mangling
        return f"_{self.frame.mangling}{name}" if is_private else name

    # Statements

    def do_Expr(self, node: ast.Expr) -> None:
        self.value(node.value)

    def do_Pass(self, node: ast.AST) -> None:
        pass

    do_Break = do_Continue = do_Global = do_Nonlocal = do_Pass

    def do_Return(self, node: ast.Return) -> None:
        self.reach.grow(self.frame.returns, self.value(node.value) if node.value else ONLY_DATA)

    def do_Assign(self, node: ast.Assign) -> None:
        value = self.value(node.value)
        for target in node.targets:
            self.assign(target, value, node.value)

    def do_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.assign(node.target, self.value(node.value))

    def do_AugAssign(self, node: ast.AugAssign) -> None:
        target = ast.copy_location(_as_load(node.target), node.target)
        before, more = self.value(target), self.value(node.value)
        if DATA in before:
            self.reach.put(more)
        self.assign(node.target, before | more | self.operate(node, before, more))

    def assign(self, target: ast.expr, value: Value, source: ast.expr | None = None) -> None:
        if isinstance(target, ast.Name):
            for scope in reversed(self.scopes[len(self.frame.scopes) :]):
                if target.id in scope:
                    self.reach.grow(scope[target.id], value)
                    return
            self.reach.assign(self.frame, target.id, value)
        elif isinstance(target, (ast.Tuple, ast.List)):
            parts = source.elts if isinstance(source, (ast.Tuple, ast.List)) else []
            starred = any(isinstance(each, ast.Starred) for each in (*parts, *target.elts))
            if len(parts) == len(target.elts) and not starred:
                for each, part in zip(target.elts, parts, strict=True):
                    self.assign(each, self.value(part), part)
                return
            items = self.items(target, value)
            for each in target.elts:
                self.assign(each, items)
        elif isinstance(target, ast.Starred):
            self.assign(target.value, value | ONLY_DATA)
        elif isinstance(target, ast.Attribute):
            for atom in self.value(target.value):
                text, name = ast.unparse(target), self.name_of(target.attr)
                assign_attribute(self.reach, self.frame, atom, name, value, target, text)
        elif isinstance(target, ast.Subscript):
            owner = self.value(target.value)
            key = self.value(target.slice)
            self.note_environ(target, owner)
            self.reach.put((value | key) - ONLY_DATA)
            self.operate(target, owner, key)

    def note_environ(self, node: ast.AST, owner: Value) -> None:
        if any(getattr(atom, "value", None) is os.environ for atom in owner):
            self.reach.need(self.frame, node, "process-wide", "os.environ is changed, which is of the process")

    def items(self, node: ast.AST, value: Value) -> Value:
        """What iterating over it gives."""
        found = self.operate(node, value)
        if DATA in value:
            return value | found | self.reach.heap
        return found.union(atom for atom in value if not is_a(getattr(atom, "value", None), (enum.EnumMeta, *BOXES)))

    def do_For(self, node: ast.For | ast.AsyncFor) -> None:
        self.assign(node.target, self.items(node.iter, self.value(node.iter)))
        self.block(node.body)
        self.block(node.orelse)

    do_AsyncFor = do_For

    def do_While(self, node: ast.While) -> None:
        self.test(node.test)
        self.block(node.body)
        self.block(node.orelse)

    do_If = do_While

    def do_With(self, node: ast.With | ast.AsyncWith) -> None:
        for item in node.items:
            found = use_context(self.reach, self.frame, self.value(item.context_expr), item.context_expr)
            if item.optional_vars is not None:
                self.assign(item.optional_vars, found)
        self.block(node.body)

    do_AsyncWith = do_With

    def do_Try(self, node: ast.Try) -> None:
        self.block(node.body)
        for handler in node.handlers:
            caught = self.value(handler.type)
            if UNKNOWN in caught:
                self.need(handler, "what is caught is not known")
            if handler.name:
                self.reach.assign(self.frame, handler.name, ONLY_DATA | self.caught(caught))
            self.block(handler.body)
        self.block(node.orelse)
        self.block(node.finalbody)

    do_TryStar = do_Try

    def caught(self, classes: Value) -> Value:
        """What an exception may be: of the user's own classes it has what was put into it."""
        found = [atom.value for atom in classes if is_a(getattr(atom, "value", None), type)]
        made = {self.reach.instance(cls) for cls in found if is_heap_type(cls)}
        return frozenset(made | {each for cls, each in self.reach.instances.items() if issubclass(cls, (*found,))})

    def do_Raise(self, node: ast.Raise) -> None:
        raised = self.value(node.exc)
        self.reach.put(raised - ONLY_DATA)
        for atom in raised:
            if is_a(getattr(atom, "value", None), type):
                call(self.reach, self.frame, frozenset([atom]), Arguments(), node, "an exception")
        self.value(node.cause)

    def do_Assert(self, node: ast.Assert) -> None:
        self.operate(node, self.value(node.test), self.value(node.msg))

    def do_Delete(self, node: ast.Delete) -> None:
        for target in node.targets:
            if isinstance(target, ast.Subscript):
                owner = self.value(target.value)
                self.note_environ(target, owner)
                self.operate(target, owner, self.value(target.slice))
            elif not isinstance(target, ast.Name):
                self.need(target, "`del` of an attribute")

    def do_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            module = self.module(node, alias.name)
            if module is not None:
                root = module if alias.asname else sys.modules[alias.name.partition(".")[0]]
                self.reach.assign(self.frame, alias.asname or alias.name.partition(".")[0], self.reach.constant(root))

    def do_ImportFrom(self, node: ast.ImportFrom) -> None:
        module = self.module(node, node.module or "", node.level)
        for alias in node.names if module is not None else ():
            found = self.reach.global_of(vars(module), alias.name)
            if found is None:
                self.need(node, f"import of {alias.name} from {node.module}")
            else:
                self.reach.assign(self.frame, alias.asname or alias.name, found)

    def module(self, node: ast.AST, name: str, level: int = 0) -> types.ModuleType | None:
        """A module whose import takes no lock, as it has been imported long since."""
        if not level and is_importable(name):
            return sys.modules[name]
        what = "a relative import" if level else f"the import of {name} may block"
        self.reach.need(self.frame, node, "unread" if level else "blocks", what)
        return self.reach.module("." * level + name, self.frame.globals.get("__package__"))

    def do_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        made: Value = frozenset([self.closure(node)])
        for decorator in reversed(node.decorator_list):
            made = call(
                self.reach, self.frame, self.value(decorator), Arguments([made]), decorator, ast.unparse(decorator)
            )
        self.assign(ast.copy_location(ast.Name(node.name, ast.Store()), node), made)

    def do_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        if self.reach.follows_async(self.frame):
            self.do_FunctionDef(node)
        else:
            self.assign(ast.copy_location(ast.Name(node.name, ast.Store()), node), ONLY_DATA)

    def closure(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> Closure:
        made = self.frame.closures.setdefault(id(node), Closure(node, self.frame, self.scopes))
        defaults = [*node.args.defaults, *(each for each in node.args.kw_defaults if each is not None)]
        if any(isinstance(each, (ast.Yield, ast.YieldFrom)) for each in ast.walk(node)):
            self.need(node, "a generator function")
        if defaults:
            value = NOTHING.union(*map(self.value, defaults))
            if self.reach.enter(self.frame, node.lineno, made, Arguments()) is not None:
                frame = self.reach.frames[made]
                self.reach.grow(frame.names.setdefault("<defaults>", set()), value)
        return made

    def do_Match(self, node: ast.Match) -> None:
        subject = self.value(node.subject)
        self.operate(node, subject)
        for case in node.cases:
            match(self, case.pattern, subject)
            if case.guard is not None:
                self.test(case.guard)
            self.block(case.body)

    # Expressions

    def of_Constant(self, node: ast.Constant) -> Value:
        return ONLY_DATA

    def of_Name(self, node: ast.Name) -> Value:
        found = self.reach.look_up(self.frame, self.scopes, self.name_of(node.id))
        return self.need(node, f"the name {node.id} is not known") if found is None else found

    def of_Attribute(self, node: ast.Attribute) -> Value:
        owner, text, name = self.value(node.value), ast.unparse(node), self.name_of(node.attr)
        found: set[Any] = set()
        for atom in owner:
            found |= attribute(self.reach, self.frame, atom, name, node, text)
            if atom is DATA:
                found |= owner  # what is in a record
        return frozenset(found)

    def of_Call(self, node: ast.Call) -> Value:
        function = node.func
        if isinstance(function, ast.Name) and function.id == "super" and not node.args:
            return self.super_(node)
        arguments = self.arguments(node)
        if isinstance(function, ast.Attribute):
            owner, text = self.value(function.value), ast.unparse(function)
            name = self.name_of(function.attr)
            return call_method(self.reach, self.frame, owner, name, arguments, node, text)
        return call(self.reach, self.frame, self.value(function), arguments, node, ast.unparse(function))

    def arguments(self, node: ast.Call) -> Arguments:
        found = Arguments()
        for each in node.args:
            if isinstance(each, ast.Starred):
                found.rest |= self.items(each, self.value(each.value))
            elif found.rest:
                found.rest |= self.value(each)
            else:
                found.positional.append(self.value(each))
        for keyword in node.keywords:
            if keyword.arg is None:
                value = self.value(keyword.value)
                keys = call_method(self.reach, self.frame, value - ONLY_DATA, "keys", Arguments(), node, "keys")
                found.rest |= value | self.items(keyword.value, value | keys)
            else:
                found.keywords[keyword.arg] = self.value(keyword.value)
        return found

    def cls_of_method(self) -> type | None:
        """The class in which the function stands, if it says `super()` or `__class__`."""
        frame = self.frame
        while frame.parent is not None:
            frame = frame.parent
        held = frame.held
        if held is None:
            return None
        if "__class__" in (free := held.value.__code__.co_freevars):
            self.reach.part_of(held, free.index("__class__"))
            found = held.value.__closure__[free.index("__class__")].cell_contents
            return found if is_a(found, type) else None
        return None

    def super_(self, node: ast.Call) -> Value:
        cls = self.cls_of_method()
        first = next(iter([*self.frame.node.args.posonlyargs, *self.frame.node.args.args]), None)
        if cls is None or first is None:
            return self.need(node, "super() in a function of this kind")
        return frozenset(SuperOf(cls, atom) for atom in self.frame.names.get(first.arg, ()) if hasattr(atom, "cls"))

    def of_BinOp(self, node: ast.BinOp) -> Value:
        left, right = self.value(node.left), self.value(node.right)
        return left | right | self.operate(node, left, right)

    def of_BoolOp(self, node: ast.BoolOp) -> Value:
        return NOTHING.union(*map(self.test, node.values))

    def of_UnaryOp(self, node: ast.UnaryOp) -> Value:
        is_not = isinstance(node.op, ast.Not)
        return self.test(node.operand) and ONLY_DATA if is_not else self.operate(node, self.value(node.operand))

    def of_Compare(self, node: ast.Compare) -> Value:
        operands = NOTHING.union(self.value(node.left), *map(self.value, node.comparators))
        is_plain = all(isinstance(each, (ast.Is, ast.IsNot)) for each in node.ops)
        return ONLY_DATA if is_plain else self.operate(node, operands)

    def of_IfExp(self, node: ast.IfExp) -> Value:
        self.test(node.test)
        return self.value(node.body) | self.value(node.orelse)

    def of_JoinedStr(self, node: ast.JoinedStr) -> Value:
        self.operate(node, *map(self.value, node.values))
        return ONLY_DATA

    of_TemplateStr = of_JoinedStr

    def of_FormattedValue(self, node: ast.FormattedValue) -> Value:
        return self.value(node.value) | self.value(node.format_spec)

    def of_List(self, node: ast.List | ast.Tuple | ast.Set) -> Value:
        found = ONLY_DATA.union(*map(self.value, node.elts))
        return found | self.operate(node, found) if isinstance(node, ast.Set) else found

    of_Tuple = of_Set = of_List

    def of_Dict(self, node: ast.Dict) -> Value:
        keys = NOTHING.union(*(self.value(key) for key in node.keys if key is not None))
        self.operate(node, keys)
        merged = NOTHING.union(*(self.value(v) for k, v in zip(node.keys, node.values, strict=True) if k is None))
        keys |= call_method(self.reach, self.frame, merged - ONLY_DATA, "keys", Arguments(), node, "keys")
        return ONLY_DATA.union(keys, self.items(node, merged), *map(self.value, node.values))

    def of_Starred(self, node: ast.Starred) -> Value:
        return self.items(node, self.value(node.value))

    def of_Subscript(self, node: ast.Subscript) -> Value:
        owner, key = self.value(node.value), self.value(node.slice)
        if all(is_a(getattr(atom, "value", None), type) for atom in owner) and owner:
            name, given = "__class_getitem__", Arguments([key])  # list[str]
            return owner | call_method(self.reach, self.frame, owner, name, given, node, ast.unparse(node))
        found = self.operate(node, owner, key)
        return found | owner | (self.reach.heap if DATA in owner else NOTHING)

    def of_Slice(self, node: ast.Slice) -> Value:
        return ONLY_DATA.union(self.value(node.lower), self.value(node.upper), self.value(node.step))

    def of_NamedExpr(self, node: ast.NamedExpr) -> Value:
        self.reach.assign(self.frame, node.target.id, value := self.value(node.value))
        return value

    def of_Lambda(self, node: ast.Lambda) -> Value:
        return frozenset([self.closure(node)])

    def of_Await(self, node: ast.Await) -> Value:
        return self.value(node.value)

    def of_Yield(self, node: ast.Yield | ast.YieldFrom) -> Value:
        self.reach.grow(self.frame.returns, self.value(node.value))
        return ONLY_DATA

    of_YieldFrom = of_Yield

    def of_ListComp(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp) -> Value:
        names = {
            name.id: set[Any]()
            for clause in node.generators
            for name in ast.walk(clause.target)
            if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)
        }
        scope = self.frame.comprehensions.setdefault(id(node), names)
        before = self.scopes
        sources = [self.value(node.generators[0].iter)]
        self.scopes = (*self.scopes, scope)
        try:
            for number, clause in enumerate(node.generators):
                source = sources[0] if number == 0 else self.value(clause.iter)
                self.assign(clause.target, self.items(clause.iter, source))
                for condition in clause.ifs:
                    self.test(condition)
            if isinstance(node, ast.DictComp):
                key = self.value(node.key)
                self.operate(node, key)
                return ONLY_DATA | key | self.value(node.value)
            found = ONLY_DATA | self.value(node.elt)
            return found | self.operate(node, found) if isinstance(node, ast.SetComp) else found
        finally:
            self.scopes = before

    of_SetComp = of_GeneratorExp = of_DictComp = of_ListComp


def _as_load(target: Any) -> ast.expr:
    known: ast.expr | None = getattr(target, "_reach_load", None)
    if known is None:
        known = target._reach_load = ast.parse(ast.unparse(target), mode="eval").body
    return known
