"""The module that `adopt` writes: models, first projections, and a way to run them. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from polyplane.ops.declaration import Column, Declaration, quoted

_HEAD: Final = '''\
"""Tables of {database}, and what of them is searchable.

Written once by `polyplane adopt`, and yours from then on. The rule of each projection is its
`derive`: a pure function of one row. When you change what it means, raise `version`; the new
collection is then built beside the old one.

    export DATABASE_URL=...
    python {file}                   keep the projections in step until Ctrl-C
    python {file} "a question"      answer it from every projection
"""

from __future__ import annotations

'''

_IMPORTS: Final = (
    ("asyncio", "import asyncio"),
    ("dt", "import datetime as dt"),
    ("math", "import math"),
    ("sys", "import sys"),
    ("suppress", "from contextlib import suppress"),
    ("Decimal", "from decimal import Decimal"),
    ("Any", "from typing import Any"),
    ("UUID", "from uuid import UUID"),
)

_BASE: Final = '''

class Base(pp.Model):
    """The tables of this module."""

    __abstract__ = True
    metadata = pp.metadata()
'''

_SENTENCE: Final = '''

def sentence(facts: dict[str, object]) -> str:
    """`name: value` of everything that has a value."""
    words = {name: str(value).strip() for name, value in facts.items() if value is not None}
    return ", ".join(f"{name}: {word}" for name, word in words.items() if word)
'''

_NUMBER: Final = '''

def number(value: float | Decimal | None) -> float | None:
    """A number to filter by; those that cannot be ordered have none."""
    return float(value) if value is not None and math.isfinite(value) else None
'''

_MOMENT: Final = '''

def moment(value: dt.date | None) -> dt.datetime | None:
    """A time to filter by; one without a zone is taken as UTC."""
    if value is None:
        return None
    if not isinstance(value, dt.datetime):
        value = dt.datetime.combine(value, dt.time())
    return value if value.tzinfo else value.replace(tzinfo=dt.UTC)
'''

_TAIL: Final = '''

MODELS: list[type[pp.Model]] = [{models}]
PROJECTIONS: list[type[pp.Vectors[Any, Any]]] = [{projections}]


def open_plane() -> pp.Plane:
    """A plane on the database of DATABASE_URL; engines without a URL run below `home`."""
    settings = pp.Settings.load(home={home}, namespace={namespace})
    return pp.Plane(models=MODELS, projections=PROJECTIONS, settings=settings)


async def main(question: str) -> None:
    """Answer the question, or without one keep the projections in step until interrupted."""
    async with open_plane() as plane:
        if not question:
            print("Following the database; Ctrl-C ends it.")
            await asyncio.Event().wait()
        await plane.caught_up()
        for projection in PROJECTIONS:
            for hit in await plane[projection].search(question, limit=5):
                print(f"{{hit.score:.2f}}  {{projection.name}} {{hit.key}}  {{hit.text!r:.80}}")


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(main(" ".join(sys.argv[1:])))
'''


def source(
    declarations: Sequence[Declaration], *, database: str, file: str, home: str, namespace: str
) -> str:
    """The text of a Python module that declares all of `declarations`."""
    body = "".join(_table(declaration) for declaration in declarations)
    tail = _TAIL.format(
        models=_listed([d.class_name for d in declarations]),
        projections=_listed([f"{d.class_name}Search" for d in declarations]),
        home=quoted(home),
        namespace=quoted(namespace),
    )
    functions = "".join(
        text
        for name, text in (("sentence", _SENTENCE), ("number", _NUMBER), ("moment", _MOMENT))
        if re.search(rf"\b{name}\(", body)
    )
    body = f"{_BASE}{functions}{body}"
    head = _HEAD.format(database=_in_docstring(database), file=_in_docstring(file))
    return f"{head}{_imports(body + tail)}{body}{tail}"


def _imports(body: str) -> str:
    """What `body` uses, in the order that formatters like."""
    used = [line for name, line in _IMPORTS if re.search(rf"\b{name}\b", body)]
    typing = ["Any"] * bool(re.search(r"\bAny\b", body)) + ["TypedDict"] * ("(TypedDict)" in body)
    used = [f"from typing import {', '.join(typing)}" if "typing" in u else u for u in used]
    outside = ["import polyplane as pp", "import sqlalchemy as sa"]
    outside += ["from sqlalchemy.dialects import postgresql as pg"] * ("pg." in body)
    outside += ["from sqlalchemy.orm import Mapped, mapped_column"]
    return "\n".join([*used, "", *outside, ""])


def _table(declaration: Declaration) -> str:
    """The model, the tags' type and the projection of one table."""
    table = declaration.table
    lines = [
        "",
        "",
        f"class {declaration.class_name}(Base):",
        f'    """The table {_in_docstring(declaration.name)}."""',
        "",
        f"    __tablename__ = {quoted(table.name)}",
        f'    __table_args__ = {{"schema": {quoted(table.schema or "public")}}}',
        "",
        *(line for column in declaration.columns for line in _column(column)),
        "",
        *_tags(declaration),
        *_projection(declaration),
    ]
    return "\n".join(lines) + "\n"


def _column(column: Column) -> Iterator[str]:
    annotation = column.annotation + " | None" * bool(column.column.nullable)
    arguments = [column.type_source]
    if column.attribute != column.column.name:
        arguments.insert(0, quoted(column.column.name))
    if column.column.primary_key:
        arguments.append("primary_key=True")
    if _is_made_by_the_server(column):
        arguments.append("server_default=sa.FetchedValue()")
    yield from _call(f"    {column.attribute}: Mapped[{annotation}] = mapped_column", arguments)


def _is_made_by_the_server(column: Column) -> bool:
    made = column.column
    return made.server_default is not None or made.identity is not None or bool(made.computed)


def _tags(declaration: Declaration) -> Iterator[str]:
    if not declaration.tags:
        return
    yield ""
    yield f"class {declaration.class_name}Tags(TypedDict):"
    yield f'    """What {_in_docstring(declaration.name)} can be filtered by."""'
    yield ""
    for tag, _, annotation in declaration.tags:
        yield f"    {tag}: {annotation}"
    yield ""


def _projection(declaration: Declaration) -> Iterator[str]:
    name, tagged = declaration.class_name, bool(declaration.tags)
    yield ""
    parameters = f"{name}, {name}Tags" if tagged else name
    yield f"class {name}Search(pp.Vectors[{parameters}]):"
    yield f'    """Rows of {_in_docstring(declaration.name)} by what they say."""'
    yield ""
    yield f"    name = {quoted(declaration.projection)}"
    yield "    version = 1"
    for reason in declaration.left_out:
        yield f"    # not used: {_in_docstring(reason)}"
    yield ""
    returned = f"pp.Vector[{name}Tags]" if tagged else "pp.Vector"
    yield f"    def derive(self, row: {name}, /) -> {returned} | None:"
    yield from _text(declaration)
    yield "        if not text:"
    yield "            return None"
    if not tagged:
        yield "        return pp.Vector(text)"
        return
    pairs = [f"{tag}={expression}" for tag, expression, _ in declaration.tags]
    yield from _call(f"        tags = {name}Tags", pairs)
    yield "        return pp.Vector(text, tags)"


def _text(declaration: Declaration) -> Iterator[str]:
    if declaration.texts:
        parts = [f"row.{attribute}" for attribute in declaration.texts]
        if len(parts) == 1:
            yield f'        text = ({parts[0]} or "").strip()'
            return
        yield from _call("        parts = ", parts)
        yield r'        text = "\n".join(part.strip() for part in parts if part)'
        return
    pairs = [f"{quoted(label)}: row.{attribute}" for label, attribute in declaration.facts]
    yield from _call("        facts: dict[str, object] = ", pairs, ("{", "}"))
    yield "        text = sentence(facts)"


def _call(
    head: str, arguments: Sequence[str], brackets: tuple[str, str] = ("(", ")")
) -> Iterator[str]:
    """`head(a, b)` on one line if it fits in 100 columns, else one argument a line."""
    opening, closing = brackets
    line = f"{head}{opening}{', '.join(arguments)}{closing}"
    if len(line) <= 100:
        yield line
        return
    margin = " " * (len(head) - len(head.lstrip()))
    yield f"{head}{opening}"
    for argument in arguments:
        yield f"{margin}    {argument},"
    yield f"{margin}{closing}"


def _listed(names: Sequence[str]) -> str:
    joined = ", ".join(names)
    return joined if len(joined) < 60 else "\n    " + ",\n    ".join(names) + ",\n"


def _in_docstring(text: str) -> str:
    """`text` as it may stand inside a docstring or a comment."""
    shown = "".join(c if c.isprintable() else "?" for c in text)
    return shown.replace("\\", "\\\\").replace('"', "'")
