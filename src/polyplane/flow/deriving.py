"""Rows of truth -> items of a store: the one place where `derive` is called.

Projecting, backfill and verify all come through here, so that they cannot disagree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple, Protocol

import numpy as np

from polyplane.errors import DeriveFailed, Misconfigured, Refused
from polyplane.flow.marking import Marking
from polyplane.model.digest import digest
from polyplane.model.graph import Edge, Node, fitted
from polyplane.model.items import Entry, Item, Vector
from polyplane.model.projection import Edges, Nodes, Projection, Vectors
from polyplane.model.scope import TENANT_ID, check_unreserved, versioned
from polyplane.model.terms import EDITION
from polyplane.stores.protocol import Embedder
from polyplane.truth.rows import Joined, Row


@dataclass(slots=True)
class Derived:
    """What follows from some rows; keys from which nothing does; rows that `derive` cannot take."""

    puts: list[Item] = field(default_factory=list)
    drops: list[str] = field(default_factory=list)
    bad: dict[str, Exception] = field(default_factory=dict)

    def extend(self, more: Derived) -> None:
        """Add what follows from further rows."""
        self.puts += more.puts
        self.drops += more.drops
        self.bad |= more.bad

    def __len__(self) -> int:
        """How many rows these are."""
        return len(self.puts) + len(self.drops) + len(self.bad)


class Deriver(Protocol):
    """How one projection's rows become items."""

    definition: str
    """What digests depend on besides the row: kind, version, embedder."""

    def digests(self, rows: Iterable[Row]) -> Iterable[tuple[str, str | None]]:
        """(key, digest) for each row; None where nothing follows from it, or nothing can. Pure."""
        ...

    def derived(self, rows: Iterable[Row]) -> Derived:
        """What follows from each row. Pure; items still lack what `finish` adds."""
        ...

    async def finish(self, items: Sequence[Item], *, anew: bool = False) -> None:
        """Add to `items` what takes more than a pure function: embeddings. Safe to repeat.

        `anew`: of nothing that is kept, as for a proof.
        """
        ...

    async def items(self, rows: Iterable[Row]) -> tuple[list[Item], list[str]]:
        """Finished items to put, and the keys from whose rows nothing follows.

        Raises DeriveFailed for the first row that `derive` cannot take.
        """
        ...


def _digests(
    one: Callable[[str, Any], tuple[Any, str] | None], rows: Iterable[Row]
) -> Iterable[tuple[str, str | None]]:
    """The digests of all rows; a bad one is parked and told of there."""
    for key, row in rows:
        try:
            found = one(key, row)
        except DeriveFailed:
            found = None
        yield key, found and found[1]


def _each(one: Callable[[str, Any], tuple[Any, str] | None], rows: Iterable[Row]) -> Derived:
    """All rows, one by one, so that a bad one keeps none of the others back."""
    derived = Derived()
    for key, row in rows:
        try:
            found = one(key, row)
        except DeriveFailed as error:
            derived.bad[key] = error
            continue
        if found is None:
            derived.drops.append(key)
        else:
            derived.puts.append(Item(key, found[1], found[0]))
    return derived


async def _items(deriver: Deriver, rows: Iterable[Row]) -> tuple[list[Item], list[str]]:
    derived = deriver.derived(rows)
    for error in derived.bad.values():
        raise error
    await deriver.finish(derived.puts)
    return derived.puts, derived.drops


def _derive(projection: Projection[Any], key: str, row: Any) -> Any:
    try:
        return projection.derive(row)
    except Exception as error:
        raise DeriveFailed(projection.name, key, error) from error


def _derive_joined(projection: Any, key: str, joined: Joined) -> Any:
    """As `_derive`, for a projection with touches."""
    try:
        return projection.derive(joined.row, **joined.related)
    except Exception as error:
        raise DeriveFailed(projection.name, key, error) from error


def _version(projection: Projection[Any], marks: Sequence[str], keyed: Keyed) -> str:
    """The part of a definition that the code decides, and what keys digests."""
    named = f"{projection.name}/{versioned(projection.version, marks)}"
    return f"{named}/keyed by {keyed.name}" if keyed.key else named


class Keyed(NamedTuple):
    """What digests over secrets are keyed with: whoever sees one cannot try what it is of."""

    name: str
    key: bytes


NO_KEY: Final = Keyed("", b"")


class Remembering(Protocol):
    """Embeds texts, but for those whose vectors are kept."""

    async def embed(
        self, embedder: Embedder, texts: Sequence[str], tenants: Sequence[str], *, anew: bool
    ) -> Any:
        """As `embedder.embed`. A vector is kept for the tenant whose text it is. `anew`: each text
        is embedded, and its vector kept in place of what was.
        """
        ...


class VectorDeriver:
    """Vectors: the text is embedded unless `derive` brings its own embedding."""

    def __init__(
        self,
        projection: Vectors[Any, Any],
        embedder: Embedder | None,
        keyed: Keyed = NO_KEY,
        memory: Remembering | None = None,
    ) -> None:
        """`memory` may keep the vectors: None where texts are of secrets."""
        self._projection = projection
        self._memory = memory
        self._key = keyed.key
        self._derive = _derive_joined if projection.touches else _derive
        self._embedder = embedder
        self._dimensions = embedder.dimensions if embedder else projection.dimensions
        self._by = embedder.identity if embedder else "own"
        self._marks = Marking(projection)
        version = _version(projection, self._marks.names, keyed)
        found_by = f"/words {EDITION} {projection.full_text}" if projection.full_text else ""
        self.definition = f"vector/{version}/{self._by}{found_by}"

    def _one(self, key: str, row: Any) -> tuple[Vector[Any], str] | None:
        """(content, digest) of one row, or None."""
        marks = self._marks
        if marks.names:
            row = marks.of_one_tenant(key, row)
        vector = self._derive(self._projection, key, row)
        if vector is None:
            return None
        if marks.names:
            vector = self._marked(key, vector, marks.read(key, row))
        own = vector.embedding
        try:
            by = self._by if own is None else np.asarray(own, "<f4").tobytes().hex()
            return vector, digest([vector.text, vector.tags, by], self._key)
        except (TypeError, ValueError) as error:
            raise DeriveFailed(self._projection.name, key, error) from error

    def _marked(self, key: str, vector: Vector[Any], marks: dict[str, Any]) -> Vector[Any]:
        """`vector` with what says whose it is, which no tag of its own may say."""
        try:
            check_unreserved(vector.tags, "The tag")
        except Refused as error:
            raise DeriveFailed(self._projection.name, key, error) from error
        return replace(vector, tags={**vector.tags, **marks})

    def digests(self, rows: Iterable[Row]) -> Iterable[tuple[str, str | None]]:
        """See `Deriver.digests`."""
        return _digests(self._one, rows)

    def derived(self, rows: Iterable[Row]) -> Derived:
        """See `Deriver.derived`."""
        return _each(self._checked, rows)

    def _checked(self, key: str, row: Any) -> tuple[Vector[Any], str] | None:
        """As `_one`. A vector no store can hold is found here, where it costs no other row."""
        found = self._one(key, row)
        if found and (own := found[0].embedding) is not None:
            shape = np.shape(own)
            if shape != (self._dimensions,):
                error = Refused(f"An embedding has the shape {shape}.", field="embedding")
                raise DeriveFailed(self._projection.name, key, error) from error
        return found

    async def finish(self, items: Sequence[Item], *, anew: bool = False) -> None:
        """See `Deriver.finish`; all texts of a call are embedded together."""
        bare = [item for item in items if item.content.embedding is None]
        if bare:
            if self._embedder is None:
                raise Misconfigured(
                    f"{self._projection.name} derives no embedding and there is no embedder.",
                    fix="Set dimensions and return Vector(..., embedding=...), or set an embedder.",
                )
            texts = [item.content.text for item in bare]
            if self._memory is None:
                vectors = await self._embedder.embed(texts)
            else:
                whose = [str(item.content.tags.get(TENANT_ID) or "") for item in bare]
                vectors = await self._memory.embed(self._embedder, texts, whose, anew=anew)
            for item, embedding in zip(bare, vectors, strict=True):
                item.content = Vector(item.content.text, item.content.tags, embedding)

    async def items(self, rows: Iterable[Row]) -> tuple[list[Item], list[str]]:
        """See `Deriver.items`."""
        return await _items(self, rows)


class EntryDeriver:
    """Cache entries."""

    def __init__(self, projection: Projection[Any], keyed: Keyed = NO_KEY) -> None:
        self._projection = projection
        self._key = keyed.key
        self._derive = _derive_joined if projection.touches else _derive
        self._marks = Marking(projection)
        self.definition = f"cache/{_version(projection, self._marks.names, keyed)}"

    def _one(self, key: str, row: Any) -> tuple[Entry, str] | None:
        """(content, digest) of one row, or None."""
        marks = self._marks
        if marks.names:
            row = marks.of_one_tenant(key, row)
        entry = self._derive(self._projection, key, row)
        if entry is not None and (marks.names or entry.marks):
            if entry.marks:
                error = Refused("The marks of an entry are given by the plane.", field="marks")
                raise DeriveFailed(self._projection.name, key, error) from error
            entry = replace(entry, marks=marks.read(key, row))
        try:
            if entry is None:
                return None
            content = [entry.value, entry.marks] if marks.names else entry.value
            return entry, digest(content, self._key)
        except (TypeError, ValueError) as error:
            raise DeriveFailed(self._projection.name, key, error) from error

    def digests(self, rows: Iterable[Row]) -> Iterable[tuple[str, str | None]]:
        """See `Deriver.digests`."""
        return _digests(self._one, rows)

    def derived(self, rows: Iterable[Row]) -> Derived:
        """See `Deriver.derived`."""
        return _each(self._one, rows)

    async def finish(self, items: Sequence[Item], *, anew: bool = False) -> None:
        """See `Deriver.finish`: an entry is finished as it is derived."""

    async def items(self, rows: Iterable[Row]) -> tuple[list[Item], list[str]]:
        """See `Deriver.items`."""
        return await _items(self, rows)


class GraphDeriver:
    """Nodes, or edges with their ends."""

    def __init__(
        self,
        projection: Nodes[Any, Any] | Edges[Any, Any],
        ends: Sequence[str] = (),
        keyed: Keyed = NO_KEY,
    ) -> None:
        """`ends` are the definitions of the nodes that edges are from and to.

        They are part of the edges' own: nodes of another definition are other nodes, under
        another label. So are the types of properties: an engine has a column for each.
        """
        self._projection = projection
        self._key = keyed.key
        self._derive = _derive_joined if projection.touches else _derive
        self._marks = Marking(projection)
        self._types = projection.property_types()
        self._shape: type[Node[Any]] | type[Edge[Any]] = Edge if ends else Node
        version = _version(projection, self._marks.names, keyed)
        columns = ", ".join(f"{name}: {kind.__name__}" for name, kind in self._types.items())
        between = " from {} to {}".format(*ends) if ends else ""
        self.definition = f"graph/{version}/{projection.label}({columns}){between}"

    def _one(self, key: str, row: Any) -> tuple[Node[Any] | Edge[Any], str] | None:
        """(content, digest) of one row, or None."""
        marks = self._marks
        if marks.names:
            row = marks.of_one_tenant(key, row)
        found = self._derive(self._projection, key, row)
        if found is None:
            return None
        try:
            content = self._checked(found)
            if marks.names:
                properties = {**content.properties, **marks.read(key, row)}
                content = replace(content, properties=properties)
            ends = [content.source, content.target] if isinstance(content, Edge) else []
            return content, digest([*ends, content.properties], self._key)
        except (TypeError, ValueError, Refused) as error:
            raise DeriveFailed(self._projection.name, key, error) from error

    def _checked(self, found: Any) -> Node[Any] | Edge[Any]:
        """What no engine can hold is found here, where it costs no other row."""
        if not isinstance(found, self._shape):
            raise Refused(f"A {type(found).__name__} is no {self._shape.__name__}.")
        if isinstance(found, Edge):
            for end in (found.source, found.target):
                if not isinstance(end, str):
                    raise Refused(f"The end {end!r:.80} of an edge is no key, which is a text.")
        return replace(found, properties=fitted(found.properties, self._types))

    def digests(self, rows: Iterable[Row]) -> Iterable[tuple[str, str | None]]:
        """See `Deriver.digests`."""
        return _digests(self._one, rows)

    def derived(self, rows: Iterable[Row]) -> Derived:
        """See `Deriver.derived`."""
        return _each(self._one, rows)

    async def finish(self, items: Sequence[Item], *, anew: bool = False) -> None:
        """See `Deriver.finish`: a node or an edge is finished as it is derived."""

    async def items(self, rows: Iterable[Row]) -> tuple[list[Item], list[str]]:
        """See `Deriver.items`."""
        return await _items(self, rows)
