"""From a reflected table to a model and a first projection, ready to be written down. Pure."""

from __future__ import annotations

import keyword
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from polyplane.model.table import Model

TAGS_MAX: Final = 12
"""Tags of a first projection; the user adds more where they are worth it."""

_SECRET = re.compile(r"passw|secret|token|hash|salt|credential|api_?key|iban|ssn", re.IGNORECASE)
_NAMES_IN_USE = {"Any", "Base", "Decimal", "Mapped", "UUID", "UTC", "dt", "math", "mapped_column"}
_NAMES_IN_USE |= {"pg", "pp", "sa", "int", "str", "float", "bool", "bytes", "list", "object"}
_NAMES_IN_USE |= {"TypedDict", "None", "MODELS", "PROJECTIONS", "sentence", "number", "moment"}
_TAGS_IN_USE = {"key", "position", "digest", "vector", "text", "int", "str", "float", "bool", "dt"}


@dataclass(frozen=True, slots=True)
class Sample:
    """What a text column holds in the first rows: anything at all; few short values again and
    again."""

    is_filled: bool = True
    is_category: bool = False


@dataclass(frozen=True, slots=True)
class Column:
    """One mapped column as it is written down."""

    attribute: str
    column: sa.Column[Any]
    type_source: str
    annotation: str
    tag: tuple[str, str, str] | None = None
    """(tag, expression, annotation), when the column becomes a tag."""


@dataclass(frozen=True, slots=True)
class Declaration:
    """A table's model and first projection, before they are written down.

    `texts` are the attributes whose values are the text to search; without any, the text is a
    sentence of `facts`, (label, attribute) of each. `left_out` says why a column is not used.
    """

    table: sa.Table
    class_name: str
    projection: str
    columns: tuple[Column, ...]
    texts: tuple[str, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    left_out: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """`schema.table`."""
        return f"{self.table.schema}.{self.table.name}"

    @property
    def tags(self) -> list[tuple[str, str, str]]:
        """(tag, expression, annotation) of each tag."""
        return [column.tag for column in self.columns if column.tag]


@dataclass(slots=True)
class Taken:
    """Names given so far in one generated module."""

    classes: set[str] = field(default_factory=lambda: set(_NAMES_IN_USE))
    projections: set[str] = field(default_factory=set)


def key_obstacle(table: sa.Table) -> str:
    """Why the primary key of `table` cannot name rows in changes; empty when it can."""
    for column in table.primary_key.columns:
        if type_source(column.type) is None:
            return f"its key column {column.name} has a type that is not supported as a key"
    return "" if table.primary_key.columns else "it has no primary key"


def declare(table: sa.Table, samples: Mapping[str, Sample], taken: Taken) -> Declaration:
    """A model and a first projection for a reflected `table` with a usable primary key.

    `samples` say what its text columns hold. Columns whose name sounds like a secret are mapped
    but neither embedded nor tags.
    """
    class_name = _class_name(table, taken.classes)
    columns, left_out = _columns(table, samples)
    public = [c for c in columns if not _SECRET.search(c.column.name)]
    left_out += [f"{c.column.name}: may be a secret" for c in columns if c not in public]
    values = [c for c in public if not c.column.primary_key] or public
    texts = [c for c in values if is_text(c.column) and _sample(samples, c.column).is_filled]
    facts = [] if texts else [c for c in public if _says_something(c.column)]
    return Declaration(
        table=table,
        class_name=class_name,
        projection=_projection_name(table, taken.projections),
        columns=tuple(columns),
        texts=tuple(c.attribute for c in texts),
        facts=tuple((c.column.name, c.attribute) for c in facts),
        left_out=tuple(left_out),
    )


def _columns(table: sa.Table, samples: Mapping[str, Sample]) -> tuple[list[Column], list[str]]:
    columns: list[Column] = []
    left_out: list[str] = []
    attributes = _NAMES_IN_USE | {name for name in dir(Model) if not name.startswith("__")}
    tags = set(_TAGS_IN_USE)
    key = list(table.primary_key.columns)
    for column in table.columns:
        written = type_source(column.type)
        if written is None:
            left_out.append(f"{column.name}: a type that is not mapped here")
            continue
        attribute = _identifier(column.name, attributes)
        tag = None
        wanted = len(tags) - len(_TAGS_IN_USE) < TAGS_MAX and (len(key) > 1 or column not in key)
        if wanted and not _SECRET.search(column.name):
            tag = _tag(column, attribute, _sample(samples, column), tags)
        columns.append(Column(attribute, column, *written, tag))
    return columns, left_out


def _sample(samples: Mapping[str, Sample], column: sa.Column[Any]) -> Sample:
    return samples.get(column.name, Sample())


def type_source(kind: sa.types.TypeEngine[Any]) -> tuple[str, str] | None:
    """(SQLAlchemy type, Python annotation) as source code; None for a type not mapped here."""
    match _base(kind):
        case pg.ENUM(enums=labels, name=name, schema=schema):
            words = ", ".join(map(quoted, labels))
            own = f", schema={quoted(schema)}" if schema else ""
            return f"pg.ENUM({words}, name={quoted(name or '')}{own}, create_type=False)", "str"
        case pg.CITEXT():
            return "pg.CITEXT", "str"
        case sa.CHAR(length=length) | sa.String(length=length) as found:
            name = "Text" if isinstance(found, sa.Text) else type(found).__name__
            name = {"VARCHAR": "String"}.get(name, name)
            return f"sa.{name}({length})" if length else f"sa.{name}", "str"
        case sa.Numeric(precision=precision, scale=scale):
            limits = "" if precision is None else f"({precision}, {scale or 0})"
            return f"sa.Numeric{limits}", "Decimal"
        case sa.DateTime(timezone=has_zone):
            return "sa.DateTime(timezone=True)" if has_zone else "sa.DateTime", "dt.datetime"
        case sa.Time(timezone=has_zone):
            return "sa.Time(timezone=True)" if has_zone else "sa.Time", "dt.time"
        case sa.ARRAY(item_type=item):
            inner = type_source(item)
            return (f"pg.ARRAY({inner[0]})", "list[Any]") if inner else None
        case other:
            found_types = (pair for base, *pair in _TYPES if isinstance(other, base))
            source, annotation = next(found_types, ("", ""))
            return (source, annotation) if source else None


_TYPES: Final[list[tuple[type[sa.types.TypeEngine[Any]], str, str]]] = [
    (sa.BigInteger, "sa.BigInteger", "int"),
    (sa.SmallInteger, "sa.SmallInteger", "int"),
    (sa.Integer, "sa.Integer", "int"),
    (sa.REAL, "sa.REAL", "float"),
    (sa.Float, "sa.Double", "float"),
    (sa.Boolean, "sa.Boolean", "bool"),
    (sa.Uuid, "sa.Uuid", "UUID"),
    (sa.Date, "sa.Date", "dt.date"),
    (pg.INTERVAL, "sa.Interval", "dt.timedelta"),
    (sa.LargeBinary, "sa.LargeBinary", "bytes"),
    (pg.JSONB, "pg.JSONB", "Any"),
    (sa.JSON, "sa.JSON", "Any"),
]


def _base(kind: sa.types.TypeEngine[Any]) -> sa.types.TypeEngine[Any]:
    """The type below any domains."""
    while isinstance(kind, pg.DOMAIN):
        kind = kind.data_type
    return kind


def is_text(column: sa.Column[Any]) -> bool:
    """Whether the column holds prose, names or codes as text."""
    kind = _base(column.type)
    return isinstance(kind, sa.String) and not isinstance(kind, sa.Enum)


def _says_something(column: sa.Column[Any]) -> bool:
    """Whether the column's values read well in a sentence; a key that is a mere id does not."""
    kind = _base(column.type)
    is_id = column.primary_key and isinstance(kind, sa.Uuid)
    return not is_id and not isinstance(kind, sa.LargeBinary | sa.JSON | sa.ARRAY)


def _tag(
    column: sa.Column[Any], attribute: str, sample: Sample, tags: set[str]
) -> tuple[str, str, str] | None:
    """(tag, expression, annotation) if the column's values are worth filtering by."""
    value = f"row.{attribute}"
    or_none = " | None" if column.nullable else ""
    match _base(column.type):
        case sa.Enum():
            made, annotation = value, f"str{or_none}"
        case sa.String():
            if not sample.is_category:
                return None
            made, annotation = value, f"str{or_none}"
            if isinstance(_base(column.type), sa.CHAR):  # PostgreSQL pads it with blanks
                made, annotation = f'({value} or "").strip() or None', "str | None"
        case sa.Boolean():
            made, annotation = value, f"bool{or_none}"
        case sa.Integer():
            made, annotation = value, f"int{or_none}"
        case sa.Float() | sa.Numeric():
            made, annotation = f"number({value})", "float | None"
        case sa.DateTime() | sa.Date():
            made, annotation = f"moment({value})", "dt.datetime | None"
        case sa.Uuid():
            made = f"None if {value} is None else str({value})" if or_none else f"str({value})"
            annotation = f"str{or_none}"
        case _:
            return None
    return _identifier(slug(attribute) or "tag", tags), made, annotation


def slug(text: str) -> str:
    """`text` in ASCII lower case, words joined by underscores; may come out empty."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "_", plain).strip("_")


def _identifier(name: str, taken: set[str]) -> str:
    """A Python identifier like `name` that is not taken; it is taken from now on."""
    text = re.sub(r"\W+", "_", unicodedata.normalize("NFKC", name)).strip("_") or "column"
    text = f"c_{text}" if text[0].isdecimal() or not text.isidentifier() else text
    text = f"{text}_" if keyword.iskeyword(text) or text in taken else text
    return _first_free(text, lambda candidate: candidate not in taken, taken)


def _class_name(table: sa.Table, taken: set[str]) -> str:
    """`line_items` -> LineItems, with the schema before it when the plain name is taken."""
    plain, full = (_camel(text) for text in (table.name, f"{table.schema}_{table.name}"))

    def is_free(name: str) -> bool:
        return not {name, f"{name}Search", f"{name}Tags"} & taken

    name = plain if is_free(plain) else _first_free(full, is_free, set())
    taken |= {name, f"{name}Search", f"{name}Tags"}
    return name


def _camel(text: str) -> str:
    words = re.split(r"[\W_]+", unicodedata.normalize("NFKC", text))
    joined = "".join(word[0].upper() + word[1:] for word in words if word) or "Table"
    return joined if joined.isidentifier() and not keyword.iskeyword(joined) else f"Table{joined}"


def _projection_name(table: sa.Table, taken: set[str]) -> str:
    """The collection's name, for engines that know ASCII only."""
    short = slug(table.name) or f"table_{blake2b(table.name.encode(), digest_size=4).hexdigest()}"
    schema = slug(table.schema or "")
    name = f"{short}_search" if schema in ("", "public") else f"{schema}_{short}_search"
    return _first_free(name, lambda candidate: candidate not in taken, taken)


def _first_free(name: str, is_free: Callable[[str], bool], taken: set[str]) -> str:
    """`name`, or `name_2` and so on; the result is added to `taken`."""
    chosen, number = name, 1
    while not is_free(chosen):
        number += 1
        chosen = f"{name}_{number}"
    taken.add(chosen)
    return chosen


def quoted(value: str) -> str:
    """A string literal, with the quotes that formatters like."""
    mark = "'" if value.count('"') > value.count("'") else '"'
    escaped = value.replace("\\", "\\\\").replace(mark, f"\\{mark}")
    safe = "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in escaped)
    return f"{mark}{safe}{mark}"
