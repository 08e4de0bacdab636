"""The collections of a graph in Neo4j: made with constraints and indexes, and taken away."""

from __future__ import annotations

from typing import Final

from neo4j import AsyncManagedTransaction
from neo4j.exceptions import ClientError

from polyplane.errors import NotFound, Refused
from polyplane.model.collection import Collection
from polyplane.model.graph import ID
from polyplane.stores.graph.asking import check_declared
from polyplane.stores.graph.neo4j_names import KEY, POSITION, Names, quoted, shape_of
from polyplane.stores.graph.neo4j_server import Server, done, rows
from polyplane.stores.graph.neo4j_writing import lock

_AT_ONCE: Final = 10_000
"""What is deleted in one transaction."""


async def prepare(server: Server, names: Names, collection: Collection) -> None:
    """Make a collection, unless it is there; of another shape, it is made anew.

    Raises Misconfigured for a property that cannot be called so.
    """
    check_declared(collection)
    own, shape = names.of(collection.labelled), shape_of(collection)
    what, known = f"prepare {own}", quoted(names.collections)
    found = await server.read(
        what,
        f"MATCH (c:{known} {{name: $name}}) RETURN c.shape AS shape, c.going AS going",
        {"name": own},
    )
    if found and found[0]["shape"] == shape and not found[0]["going"]:
        return
    if found:
        await forget(server, names, collection)
    for statement in (_constraint(names.collections, "name"), *_schema(names, collection)):
        await _made(server, what, statement)
    await server.alone(
        what,
        f"MERGE (c:{known} {{name: $name}}) SET c.shape = $shape",
        {"name": own, "shape": shape},
    )


async def check_prepared(server: Server, names: Names, labelled: str) -> None:
    """NotFound when the collection is not there, or about to go."""
    own = names.of(labelled)
    found = await server.read(
        f"look for {own}",
        f"MATCH (c:{quoted(names.collections)} {{name: $name}}) WHERE c.going IS NULL RETURN 1",
        {"name": own},
    )
    if not found:
        raise NotFound(f"{own} is not in the graph.", fix="Prepare it first.")


async def forget(server: Server, names: Names, collection: Collection) -> None:
    """Delete a collection with all it holds, and relations that still refer to its nodes.

    Nobody can write to it once it has begun; when it ends halfway, the next `prepare` goes on.
    """
    own, what = names.of(collection.labelled), f"forget {collection.labelled}"
    known = quoted(names.collections)
    await server.alone(what, f"MATCH (c:{known} {{name: $name}}) SET c.going = true", {"name": own})
    for statement in _deletions(names, collection):
        while (await server.writing(what, rows, statement, {"some": _AT_ONCE}))[0]["some"]:
            pass
    for name in _constraint_names(names, collection):
        await server.alone(what, f"DROP CONSTRAINT {quoted(name)} IF EXISTS")
    for name in _indexes(names, collection):
        await server.alone(what, f"DROP INDEX {quoted(name)} IF EXISTS")
    await server.alone(what, f"MATCH (c:{known} {{name: $name}}) DELETE c", {"name": own})


async def maintain(server: Server, names: Names, collection: Collection, *, full: bool) -> None:
    """Neo4j keeps its indexes itself; `full` takes away stubs that no edge needs any more."""
    if full and not collection.ends:
        await server.writing(f"maintain {collection.labelled}", _sweep, names, collection)


async def _sweep(tx: AsyncManagedTransaction, names: Names, collection: Collection) -> None:
    """Under the lock, without which nobody makes stubs, or edges to them."""
    await lock(tx, names, collection, 0)
    any_of = quoted(names.any_of(collection.labelled))
    await done(tx, f"MATCH (n:{any_of}) WHERE n.{POSITION} = 0 AND NOT (n)--() DELETE n")


def _constraint(label: str, name: str) -> str:
    return (
        f"CREATE CONSTRAINT {quoted(f'{label}/{name}')} IF NOT EXISTS "
        f"FOR (n:{quoted(label)}) REQUIRE n.{quoted(name)} IS UNIQUE"
    )


def _schema(names: Names, collection: Collection) -> list[str]:
    own = names.of(collection.labelled)
    if collection.ends:
        kind = quoted(own)
        unique = f"FOR ()-[r:{kind}]-() REQUIRE r.{ID} IS UNIQUE"
        return [
            f"CREATE CONSTRAINT {quoted(f'{own}/{ID}')} IF NOT EXISTS {unique}",
            _constraint(names.gone(collection.labelled), KEY),
        ]
    return [
        _constraint(names.any_of(collection.labelled), KEY),
        *(
            f"CREATE INDEX {quoted(name)} IF NOT EXISTS FOR (n:{quoted(own)}) ON (n.{quoted(tag)})"
            for name, tag in _indexes(names, collection).items()
        ),
    ]


def _constraint_names(names: Names, collection: Collection) -> list[str]:
    if collection.ends:
        return [f"{names.of(collection.labelled)}/{ID}", f"{names.gone(collection.labelled)}/{KEY}"]
    return [f"{names.any_of(collection.labelled)}/{KEY}"]


def _indexes(names: Names, collection: Collection) -> dict[str, str]:
    """Name -> property. By `id` for whoever asks the graph in his own words."""
    if collection.ends:
        return {}
    own = names.of(collection.labelled)
    return {f"{own}/{name}": name for name in (ID, *collection.indexes)}


def _deletions(names: Names, collection: Collection) -> list[str]:
    """Statements that delete at most `$some` each and say how many they were."""
    own = quoted(names.of(collection.labelled))
    if collection.ends:
        return [
            f"MATCH ()-[r:{own}]->() WITH r LIMIT $some DELETE r RETURN count(*) AS some",
            f"MATCH (g:{quoted(names.gone(collection.labelled))}) WITH g LIMIT $some "
            "DETACH DELETE g RETURN count(*) AS some",
        ]
    return [
        f"MATCH (n:{label}) WITH n LIMIT $some DETACH DELETE n RETURN count(*) AS some"
        for label in (quoted(names.any_of(collection.labelled)), own)
    ]


async def _made(server: Server, what: str, statement: str) -> None:
    """Two who make the same at once both succeed."""
    try:
        await server.alone(what, statement)
    except Refused as error:
        code = error.__cause__.code if isinstance(error.__cause__, ClientError) else ""
        if "AlreadyExists" not in (code or ""):
            raise
