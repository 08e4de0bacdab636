"""Projections: pure functions from a row of truth to an item of a store."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar, Generic, get_args, get_type_hints

from sqlalchemy.orm import InstrumentedAttribute
from typing_extensions import TypeVar

from polyplane.errors import Misconfigured
from polyplane.model.graph import Edge, Node
from polyplane.model.items import Entry, T, Vector
from polyplane.model.table import Model

M = TypeVar("M", bound=Model)

TAG_TYPES: tuple[type, ...] = (str, int, float, bool, datetime)


def snake(name: str) -> str:
    """`NoteSearch` -> `note_search`."""
    return "".join(f"_{c.lower()}" if c.isupper() and i else c.lower() for i, c in enumerate(name))


class Projection(Generic[M]):
    """What follows from a model, by a pure function. Subclass a kind: `Vectors`, `Nodes`, `Edges`
    or `Cached`.

    `name` is the projection's and its collection's name (default: the class name in snake case).
    Raise `version` when `derive` changes its meaning.

    `touches` names other models whose rows `derive` reads, each by the column that holds the key
    of a row of this projection's model: `touches = {"comments": Comment.note_id}`. `derive` then
    has a parameter of each name, the rows in the order of their own keys, and a change of one
    projects the row it belongs to again.

    With `secrets` `derive` may reveal the secrets of its rows: what it makes of them is then in the
    store as it is. Digests are keyed, and nothing follows from a row whose data key is destroyed.
    """

    name: ClassVar[str] = ""
    version: ClassVar[int] = 1
    kind: ClassVar[str] = ""
    model: ClassVar[type[Model]]
    touches: ClassVar[Mapping[str, InstrumentedAttribute[Any]]] = {}
    secrets: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not cls.__dict__.get("name"):
            cls.name = snake(cls.__name__)
        for base in getattr(cls, "__orig_bases__", ()):
            arguments = get_args(base)
            if arguments and isinstance(arguments[0], type) and issubclass(arguments[0], Model):
                cls.model = arguments[0]

    def derive(self, row: M, /) -> Any:
        """The item that follows from `row`, or None when nothing does.

        Must be pure: same row, same item; no I/O, no clock, no randomness. It sees the row's
        columns only; reaching for a relation is an error. With `touches` it also takes, by name,
        the rows that belong to this one: `def derive(self, note: Note, /, comments:
        Sequence[Comment] = ())`.
        """
        raise NotImplementedError(f"{type(self).__name__} must define derive(row).")


class Vectors(Projection[M], Generic[M, T]):
    """Items of a vector store. `T` is a TypedDict of the tags; without it tags are untyped.

    `indexes` are the tags to index for filtering. `text_name` is the name under which a store
    keeps the text. `dimensions` is needed only when `derive` brings its own embeddings.

    With `full_text` items are also found by the words of their text: `full_text = "english"` (or
    another language with a Snowball stemmer), or "plain" for texts in any language, whose words
    are then compared as they are but for case and accents.
    """

    kind: ClassVar[str] = "vector"
    indexes: ClassVar[tuple[str, ...]] = ()
    text_name: ClassVar[str] = "text"
    full_text: ClassVar[str] = ""
    dimensions: ClassVar[int | None] = None

    def derive(self, row: M, /) -> Vector[T] | None:
        raise NotImplementedError(f"{type(self).__name__} must define derive(row).")

    @classmethod
    def tag_types(cls) -> dict[str, type]:
        """Tag name -> Python type, from the TypedDict; empty when tags are untyped."""
        return _typed(cls)


class Nodes(Projection[M], Generic[M, T]):
    """Nodes of a graph, one for each row. `T` is a TypedDict of their properties, none without.

    `label` is their label, which no other projection has (default: the model's name). `indexes`
    are the properties to index where the engine can.
    """

    kind: ClassVar[str] = "graph"
    label: ClassVar[str] = ""
    indexes: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not cls.__dict__.get("label") and hasattr(cls, "model"):
            cls.label = cls.model.__name__

    def derive(self, row: M, /) -> Node[T] | None:
        raise NotImplementedError(f"{type(self).__name__} must define derive(row).")

    @classmethod
    def property_types(cls) -> dict[str, type]:
        """Property -> Python type, from the TypedDict."""
        return _typed(cls)


class Edges(Projection[M], Generic[M, T]):
    """Edges of a graph, one for each row, from a node of `source` to one of `target`.

    `label` is their type, which no other projection has (default: the projection's name in
    capitals). `T` is a TypedDict of their properties.
    """

    kind: ClassVar[str] = "graph"
    label: ClassVar[str] = ""
    source: ClassVar[type[Nodes[Any, Any]]]
    target: ClassVar[type[Nodes[Any, Any]]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not cls.__dict__.get("label"):
            cls.label = cls.name.upper()

    def derive(self, row: M, /) -> Edge[T] | None:
        raise NotImplementedError(f"{type(self).__name__} must define derive(row).")

    @classmethod
    def property_types(cls) -> dict[str, type]:
        """Property -> Python type, from the TypedDict."""
        return _typed(cls)


class Cached(Projection[M]):
    """Items of a cache: `key_prefix` + key -> JSON. May be lost at any time; never stale.

    `ttl_s` is the time to live in seconds of an entry that does not bring its own.
    """

    kind: ClassVar[str] = "cache"
    key_prefix: ClassVar[str] = ""
    ttl_s: ClassVar[int] = 300

    def derive(self, row: M, /) -> Entry | None:
        raise NotImplementedError(f"{type(self).__name__} must define derive(row).")


def _typed(cls: Any) -> dict[str, Any]:
    """Name -> Python type, from the TypedDict that a projection was subscripted with."""
    for base in getattr(cls, "__orig_bases__", ()):
        arguments = get_args(base)
        if len(arguments) == 2 and hasattr(arguments[1], "__required_keys__"):
            return {n: _scalar(cls, n, h) for n, h in get_type_hints(arguments[1]).items()}
    return {}


def _scalar(cls: type, name: str, hint: Any) -> type:
    """The one scalar type of a tag hint; `X | None` counts as X."""
    options = [a for a in get_args(hint) or (hint,) if a is not type(None)]
    if len(options) != 1 or options[0] not in TAG_TYPES:
        raise Misconfigured(
            f"{cls.__name__}: tag {name!r} has the type {hint!r}.",
            fix="Use str, int, float, bool or datetime, optionally | None.",
        )
    return options[0]  # type: ignore[no-any-return]
