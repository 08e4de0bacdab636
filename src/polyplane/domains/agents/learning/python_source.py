"""What is found in a Python file: modules, classes and functions; imports, calls and bases. Pure.

Names are resolved as far as the file itself tells: by its imports, by what it defines, and by
`self`. Nothing is run, and no other file is looked at; so each file is learned by itself. What
begins with an underscore is no concept: what it does, that does which holds it.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from polyplane.domains.agents.learning.findings import Findings, shortened

Function = ast.FunctionDef | ast.AsyncFunctionDef

_SIGNS: Final = (ast.expr_context, ast.operator, ast.unaryop, ast.boolop, ast.cmpop)
_SILENT: Final = frozenset(
    {ast.Name, ast.Constant, ast.arg, ast.alias, ast.Pass, ast.Global, ast.Nonlocal}
    | {it for sign in _SIGNS for it in sign.__subclasses__()}
)
"""Nodes in which nothing is imported, defined or called."""
_WORDS_MAX: Final = 120
"""Characters of a signature."""


class Unlearnable(Exception):
    """Why nothing can be learned from a file."""


def found_in_python(module: str, source: str | bytes, *, is_package: bool = False) -> Findings:
    """What is found in the text of the module called `module`.

    Raises Unlearnable for what is no Python of this version, or is nested deeper than can be
    followed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the compiler thinks of other people's files
        try:
            tree = ast.parse(source)
        except SyntaxError as error:
            where = f", line {error.lineno}" if error.lineno else ""
            raise Unlearnable(f"no Python of this version: {error.msg}{where}") from error
        except (RecursionError, MemoryError) as error:
            raise Unlearnable("nested too deeply") from error
        except ValueError as error:
            raise Unlearnable(f"no Python: {error}") from error
    try:
        return _Reader(module, is_package, tree).found
    except RecursionError as error:
        raise Unlearnable("nested too deeply") from error


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a node stands: at the dotted `path`, in what the concept `owner` stands for, in which
    class, and whether in a function.
    """

    owner: str
    path: str
    klass: str | None = None
    is_inside: bool = False


@dataclass(slots=True)
class _Scope:
    """What names mean in the file: dotted names by the names bound to them."""

    module: str
    package: str
    bound: dict[str, str] = field(default_factory=dict)
    own: set[str] = field(default_factory=set)
    """What is defined at the top of the file; a package has modules below it besides."""
    defined: set[str] = field(default_factory=set)
    """Concepts among all that is defined."""

    def visible(self, dotted: str) -> str:
        """The concept that stands for `dotted`: itself, or what holds it."""
        inside = dotted.removeprefix(f"{self.module}.")
        if inside != dotted and inside.partition(".")[0] in self.own:
            while dotted not in self.defined and dotted != self.module:
                dotted = dotted.rpartition(".")[0]
            return dotted
        head, _, last = dotted.rpartition(".")
        return head if head and last.startswith("_") else dotted

    def absolute(self, module: str | None, level: int) -> str:
        """The module that `from ...module import` names; empty when it is above all packages."""
        if not level:
            return module or ""
        parts = self.package.split(".") if self.package else []
        if level - 1 >= len(parts):
            return ""
        parts = parts[: len(parts) - (level - 1)]
        return ".".join([*parts, module] if module else parts)


class _Reader:
    """Goes through a tree twice: for what is defined and bound, then for what is done with it."""

    def __init__(self, module: str, is_package: bool, tree: ast.Module) -> None:
        self.found = Findings(module, "python")
        package = module if is_package else module.rpartition(".")[0]
        self._scope = _Scope(module, package)
        self._imports: list[str] = []
        if not self.found.define(module, "module", _docstring(tree)):
            raise Unlearnable("the module's name is too long")
        parent = module.rpartition(".")[0]
        if parent and self.found.mention(parent):
            self.found.relate(parent, module, "contains")
        places = list(self._places(tree))
        for name in self._imports:
            self._see(module, name, "imports")
        for node, place in places:
            self._use(node, place)

    def _places(self, tree: ast.Module) -> Iterator[tuple[ast.AST, _Place]]:
        """Every node that says something, with its place; defines and binds on the way."""
        module = self._scope.module
        waiting: list[tuple[ast.AST, _Place]] = [(tree, _Place(module, module))]
        while waiting:
            node, place = waiting.pop()
            children = _children(node)
            children.reverse()  # the first is taken first
            if isinstance(node, ast.ClassDef | Function):
                inner = self._defined(node, place)
                # Decorators, bases and defaults are evaluated where it stands.
                body = set(map(id, node.body))
                waiting += [(it, inner if id(it) in body else place) for it in children]
                if isinstance(node, ast.ClassDef):
                    yield node, inner
                continue
            if isinstance(node, ast.Import | ast.ImportFrom):
                self._bind(node)
            elif isinstance(node, ast.Call):
                yield node, place
            waiting += [(it, place) for it in children]

    def _defined(self, node: ast.ClassDef | Function, place: _Place) -> _Place:
        """See a definition; the place of what is in it."""
        is_class = isinstance(node, ast.ClassDef)
        if place.is_inside:
            return replace(place, klass=None) if is_class else place
        path = f"{place.path}.{node.name}"
        if place.path == self._scope.module:
            self._scope.bound.setdefault(node.name, path)
            self._scope.own.add(node.name)
        owner, category = place.owner, "class" if is_class else "function"
        told = _docstring(node) or _signature(node)
        if (
            owner == place.path
            and not node.name.startswith("_")
            and self.found.define(path, category, told)
        ):
            self._scope.defined.add(path)
            self.found.relate(owner, path, "contains")
            owner = path
        return _Place(owner, path, path if is_class else place.klass, not is_class)

    def _bind(self, node: ast.Import | ast.ImportFrom) -> None:
        bound = self._scope.bound
        if isinstance(node, ast.Import):
            for alias in node.names:
                self._imports.append(alias.name)
                if alias.asname:
                    bound[alias.asname] = alias.name
                else:
                    first = alias.name.partition(".")[0]
                    bound[first] = first
            return
        source = self._scope.absolute(node.module, node.level)
        if not source:
            return
        self._imports.append(source)
        for alias in node.names:
            if alias.name != "*":
                bound[alias.asname or alias.name] = f"{source}.{alias.name}"
                if not alias.name.startswith("_"):
                    self._imports.append(f"{source}.{alias.name}")

    def _use(self, node: ast.AST, place: _Place) -> None:
        if isinstance(node, ast.Call):
            target = self._resolved(node.func, place)
            if target is not None:
                self._see(place.owner, target, "calls")
        elif isinstance(node, ast.ClassDef):
            for base in node.bases:
                named = base.value if isinstance(base, ast.Subscript) else base
                target = self._resolved(named, place)
                if target is not None:
                    self._see(place.owner, target, "inherits")

    def _resolved(self, node: ast.AST, place: _Place) -> str | None:
        """The dotted name of a chain `a.b.c`, if the file tells what `a` is."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            return None
        if node.id in ("self", "cls") and place.klass is not None:
            if len(parts) != 1:
                return None
            own = f"{place.klass}.{parts[0]}"
            return own if own in self._scope.defined else None
        root = self._scope.bound.get(node.id)
        return None if root is None else ".".join([root, *reversed(parts)])

    def _see(self, owner: str, dotted: str, kind: str) -> None:
        target = self._scope.visible(dotted)
        if target != owner and self.found.mention(target):
            self.found.relate(owner, target, kind)


def _children(node: ast.AST) -> list[ast.AST]:
    """The nodes right below that may say something, as they stand: most are names and signs."""
    found: list[ast.AST] = []
    for name in node._fields:
        value = getattr(node, name, None)
        if type(value) is list:
            found += [it for it in value if isinstance(it, ast.AST) and type(it) not in _SILENT]
        elif isinstance(value, ast.AST) and type(value) not in _SILENT:
            found.append(value)
    return found


def _docstring(node: ast.Module | ast.ClassDef | Function) -> str | None:
    """Its first paragraph."""
    told = ast.get_docstring(node)
    if not told or not told.strip():
        return None
    return shortened(told.strip().split("\n\n")[0])


def _signature(node: ast.ClassDef | Function) -> str | None:
    """How it is called, where it says nothing else of itself."""
    if isinstance(node, ast.ClassDef):
        return None
    given = node.args
    names = [it.arg for it in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return shortened(f"{node.name}({', '.join(names[:20])})", _WORDS_MAX)
