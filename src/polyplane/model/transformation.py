"""Transformations: rows of one model, or of an older form of it, made into rows of another."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Final, Generic, NamedTuple, get_args, overload

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import InstrumentedAttribute
from typing_extensions import TypeVar

from polyplane.errors import Misconfigured, Refused
from polyplane.model.marks import SECRET, marked, owner_column, tenant_column
from polyplane.model.projection import snake
from polyplane.model.table import Model, table_name, table_of

S = TypeVar("S", bound=Model)
T = TypeVar("T", bound=Model)
W = TypeVar("W")

_DIALECT: Final = postgresql.dialect()  # type: ignore[no-untyped-call]
_ALIKE: Final = {"VARCHAR": "TEXT", "SMALLINT": "INTEGER", "BIGINT": "INTEGER"}


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the target, and what it follows from; made by `column`."""

    to: str
    of: str
    by: Callable[[Any], Any] | None = None


@overload
def column(to: InstrumentedAttribute[Any], of: InstrumentedAttribute[Any], /) -> Column: ...
@overload
def column(
    to: InstrumentedAttribute[Any], of: InstrumentedAttribute[W], by: Callable[[W], Any], /
) -> Column: ...
def column(to: Any, of: Any, by: Callable[[Any], Any] | None = None, /) -> Column:
    """The target's column `to` is the source's column `of`, as it is or `by` a pure function.

    `column(Person.name, OldPerson.surname, str.title)`
    """
    for attribute in (to, of):
        if not isinstance(attribute, InstrumentedAttribute):
            raise Misconfigured(f"{attribute!r} is no column of a model.")
    return Column(to.key, of.key, by)


class Transformation(Generic[S, T]):
    """What becomes of each row of the model `S`: a row of `T`, or nothing.

    Either `apply` says it, or `columns` do, one by one. Where both models are of one table the rows
    are changed in their place: `T` is then given what changes, and the rest stays.

    With `same_key` (the default) a row keeps its key, which need not be given, and what was made of
    a row goes when the row goes. Without it `apply` gives the key; several rows may be made into
    one, of which the last stays. Raise `version` when the meaning changes.

    `unowned` says that everybody of the tenant may see what is made of rows that belong to users.
    """

    name: ClassVar[str] = ""
    version: ClassVar[int] = 1
    source: ClassVar[type[Model]]
    target: ClassVar[type[Model]]
    columns: ClassVar[tuple[Column, ...]] = ()
    same_key: ClassVar[bool] = True
    unowned: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not cls.__dict__.get("name"):
            cls.name = snake(cls.__name__)
        for base in getattr(cls, "__orig_bases__", ()):
            found = get_args(base)
            if len(found) == 2 and all(isinstance(it, type) for it in found):
                cls.source, cls.target = found

    def apply(self, row: S, /) -> T | None:
        """What becomes of `row`; None when nothing does.

        Must be pure: same row, same answer; no I/O, no clock, no randomness. It sees the row's own
        columns. An exception is this row's alone: it becomes a dead letter.
        """
        given = {it.to: _given(it, row) for it in self.columns}
        made: T = self.target(**given)  # type: ignore[assignment]
        return made


def _given(column: Column, row: Any) -> Any:
    value = getattr(row, column.of)
    return value if column.by is None else column.by(value)


class Made(NamedTuple):
    """What is to be written for a row: by column, under which key, on behalf of which tenant."""

    values: dict[str, Any]
    key: tuple[Any, ...]
    tenant: str


@dataclass(frozen=True, slots=True)
class Form:
    """A transformation that is checked: how rows are made. Build it with `form_of`."""

    it: Transformation[Any, Any]
    in_place: bool
    """The rows stay where they are."""
    attributes: Mapping[str, str]
    """The target's attributes -> its columns."""
    secret: frozenset[str]
    keys: tuple[tuple[str, str], ...]
    """The attributes of the keys, source's and target's; the source's is '' where it is another."""
    tenants: tuple[str, str]
    """The attributes that say whose tenant's a row is, source's and target's; '' where none does.
    """
    owners: tuple[str, str]

    @property
    def name(self) -> str:
        """The transformation's."""
        return self.it.name

    @property
    def follows(self) -> bool:
        """Whether what changes while it runs is taken again."""
        return not self.in_place

    @property
    def same_key(self) -> bool:
        """Whether what is made of a row has its key."""
        return self.in_place or self.it.same_key

    def tenant_of(self, row: Any) -> str:
        """Whose tenant's a row of the source is; '' when it does not say."""
        return str(getattr(row, self.tenants[0])) if self.tenants[0] else ""

    def made(self, row: Any) -> Made | None:
        """What becomes of a row. Raises what `apply` raises, and Refused for what cannot be."""
        found = self.it.apply(row)
        if found is None:
            return None
        if not isinstance(found, self.it.target):
            raise Refused(f"apply gave a {type(found).__name__}, not a {self.it.target.__name__}.")
        given = {name: it for name, it in vars(found).items() if name != "_sa_instance_state"}
        for name in given:
            if name not in self.attributes or name in self.secret:
                raise Refused(f"{name} cannot be given by a transformation.", field=name)
        for of, to in self.keys:
            mine = getattr(row, of) if of else given.get(to)
            if of and to in given and given[to] != mine:
                raise Refused(f"It has the key of another row in {to}.", field=to)
            if mine is None:
                raise Refused(f"The key {to} is not given.", field=to)
            given[to] = mine
        tenant = self._whose(row, given)
        key = tuple(given[to] for _, to in self.keys)
        return Made({self.attributes[name]: it for name, it in given.items()}, key, tenant)

    def _whose(self, row: Any, given: dict[str, Any]) -> str:
        """The tenant that it is written for, and given to it; its owner is given too."""
        of, to = self.owners
        if of and to:
            given.setdefault(to, getattr(row, of))
        of, to = self.tenants
        if not to:
            return "default"
        tenant = self.tenant_of(row) if of else given.get(to, "default")
        if not isinstance(tenant, str) or not tenant:
            raise Refused(f"{to} is no tenant.", field=to)
        if given.setdefault(to, tenant) != tenant:
            raise Refused("It is given to another tenant than the row's.", field=to)
        return tenant


def form_of(transformation: type[Transformation[Any, Any]]) -> Form:
    """`transformation`, checked. Raises Misconfigured for what cannot work."""
    it, name = transformation, transformation.__name__
    if not (
        hasattr(it, "source") and issubclass(it.source, Model) and issubclass(it.target, Model)
    ):
        raise Misconfigured(
            f"{name} does not say what is made of what.",
            fix=f"Write: class {name}(Transformation[Source, Target]).",
        )
    if bool(it.columns) == (it.apply is not Transformation.apply):
        raise Misconfigured(f"{name} needs either columns or apply, and not both.")
    source, target = table_of(it.source), table_of(it.target)
    in_place = table_name(source) == table_name(target)
    marks = [
        (_attribute(it.source, of(source)), _attribute(it.target, of(target))) for of in _MARKS
    ]
    form = Form(
        it=it(),
        in_place=in_place,
        attributes={p.key: p.columns[0].key or "" for p in sa.inspect(it.target).column_attrs},
        secret=frozenset(_attribute(it.target, c) for c in marked(target, SECRET)),
        keys=_keys(it, source, target, in_place=in_place),
        tenants=marks[0],
        owners=marks[1],
    )
    _check_columns(it, form)
    _check_marks(it, form)
    return form


_MARKS: Final = (tenant_column, owner_column)


def _attribute(model: type[Model], column: sa.Column[Any] | None) -> str:
    return "" if column is None else str(sa.inspect(model).get_property_by_column(column).key)


def _keys(
    it: type[Transformation[Any, Any]], source: sa.Table, target: sa.Table, *, in_place: bool
) -> tuple[tuple[str, str], ...]:
    ours, theirs = list(source.primary_key), list(target.primary_key)
    if not ours or not theirs:
        raise Misconfigured(f"{it.__name__}: both tables need a primary key.")
    to = [_attribute(it.target, column) for column in theirs]
    if not (in_place or it.same_key):
        return tuple(("", name) for name in to)
    if list(map(_kind, ours)) != list(map(_kind, theirs)):
        raise Misconfigured(
            f"{it.__name__}: the keys of {it.source.__name__} and {it.target.__name__} are of"
            " different types.",
            fix="Say same_key = False, and give the key in apply.",
        )
    return tuple((_attribute(it.source, a), name) for a, name in zip(ours, to, strict=True))


def _kind(column: sa.Column[Any]) -> str:
    bare = re.sub(r"\(.*?\)", "", column.type.compile(dialect=_DIALECT))
    return _ALIKE.get(bare, bare)


def _check_columns(it: type[Transformation[Any, Any]], form: Form) -> None:
    sources = {p.key for p in sa.inspect(it.source).column_attrs}
    for given in it.columns:
        for name, model, known in (
            (given.to, it.target, form.attributes),
            (given.of, it.source, sources),
        ):
            if name not in known:
                raise Misconfigured(f"{it.__name__}: {model.__name__}.{name} is no column of it.")
        if given.to in form.secret:
            raise Misconfigured(f"{it.__name__}: {given.to} is a secret; it cannot be given.")


def _check_marks(it: type[Transformation[Any, Any]], form: Form) -> None:
    if form.tenants[0] and not form.tenants[1]:
        raise Misconfigured(
            f"{it.__name__}: rows of {it.source.__name__} belong to tenants, and those of"
            f" {it.target.__name__} are everybody's.",
            fix=f"Give {it.target.__name__} a tenant: tenant_id: Mapped[str] = marks.tenant().",
        )
    if form.owners[0] and not form.owners[1] and not it.unowned:
        raise Misconfigured(
            f"{it.__name__}: rows of {it.source.__name__} belong to users, and those of"
            f" {it.target.__name__} do not.",
            fix="Give the target an owner, or say unowned = True.",
        )


@dataclass(frozen=True, slots=True)
class TransformationRecord:
    """How far a transformation is, or how it ended.

    `state` is "running", "done", "stopped" or "failed"; "" when it was never begun. `phase`: it
    takes all "rows" in turn, then those that have changed meanwhile ("changes"), then "letters"
    that are to be tried again. Counts are of rows, since it was begun: what was `read` in turn,
    and taken `again`, is written, skipped (`apply` gave None) or dead; `deleted` is how many went
    from the target. `about` is how many rows there were when it was begun, nearly.
    """

    name: str
    source: str
    target: str
    version: int
    state: str = ""
    phase: str = ""
    about: int = 0
    read: int = 0
    written: int = 0
    skipped: int = 0
    again: int = 0
    deleted: int = 0
    dead: int = 0
    attempt: int = 0
    error: str = ""
    is_held: bool = False
    """A process is at work on it."""
    started_at: datetime | None = None
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class TransformationLetter:
    """A row that nothing could be made of: why, and how often it was tried. `due`: it is tried
    again at once."""

    key: str
    error: str
    attempts: int
    first_at: datetime
    last_at: datetime
    due: bool


@dataclass(frozen=True, slots=True)
class DryRun:
    """What would come of a transformation: counts of rows, and the first that would be dead."""

    name: str
    read: int
    would_write: int
    would_skip: int
    would_die: int
    is_whole: bool
    """All rows were tried, and not only the first."""
    errors: tuple[tuple[str, str], ...]
    """(key, error) of the first rows that would be dead letters."""
