"""The blocking face: the same plane, for code that knows nothing of event loops."""

from __future__ import annotations

import os
import signal
import threading
from time import perf_counter
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

import polyplane as pp
from tests.flow.things import Thing, ThingSearch


@pytest.fixture
def plane(own_settings: pp.Settings) -> pp.Plane:
    """Not open yet."""
    return pp.Plane(settings=own_settings, models=[Thing], projections=[ThingSearch])


@pytest.fixture(autouse=True)
def no_thread_stays() -> Any:
    """Whatever happens in a test, its loop ends."""
    yield
    assert "polyplane" not in {thread.name for thread in threading.enumerate()}


def rows(plane: pp.Plane, query: str = "SELECT body FROM thing ORDER BY id") -> list[Any]:
    """What is really there."""
    with psycopg.connect(plane.settings.url("database_url") or "") as connection:
        return [row[0] for row in connection.execute(query.encode()).fetchall()]


def busy(plane: pp.Plane) -> int:
    """Open transactions and running statements of the plane that do not end at once, as those do
    that its flows look with.
    """
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    until = perf_counter() + 5
    while True:
        [count] = rows(plane, f"{query} AND application_name = 'polyplane' AND state <> 'idle'")
        if count == 0 or perf_counter() > until:
            return int(count)


def interrupt_after(delay_s: float) -> threading.Timer:
    """Ctrl-C, in a moment."""
    timer = threading.Timer(delay_s, os.kill, [os.getpid(), signal.SIGINT])
    timer.start()
    return timer


def test_a_script_writes_waits_and_searches(plane: pp.Plane) -> None:
    """Blocks in blocks, properties, sessions, and values that are plain already."""
    with pp.blocking(plane) as p:
        with p.write(actor="ada") as tx:
            tx.add(Thing(id=1, body="one"))
            tx.flush()
            found = tx.session.execute(sa.select(Thing.body)).scalar_one()
            assert found == tx.scalars(sa.select(Thing.body)).one() == "one"
            with p.write(actor="bob") as other, other.session.begin_nested():
                other.add(Thing(id=2, body="two"))
            tx.emit("things.thing.made", {"n": 1})
        assert isinstance(tx.token, pp.Token)
        p.settled(tx.token)
        assert {hit.text for hit in p[ThingSearch].search([1.0] * 4)} == {"one", "two"}
        with p.read() as session:
            assert session.execute(sa.select(sa.func.count(Thing.id))).scalar_one() == 2
        assert p.verify().clean
        assert p.health()
        assert p.namespace == plane.namespace


def test_errors_come_out_as_they_are_and_roll_back(plane: pp.Plane) -> None:
    """From the block, and from the plane."""
    with pp.blocking(plane) as p:
        for error in (ValueError("mine"), TimeoutError("mine"), SystemExit(3), StopIteration()):
            with pytest.raises(type(error)) as caught, p.write(actor="ada") as tx:
                tx.add(Thing(id=1, body="never"))
                tx.flush()
                raise error
            assert caught.value is error
        with pytest.raises(pp.Conflict) as conflict, p.write(actor="ada") as tx:
            tx.add_all([Thing(id=1, body="never"), Thing(id=2, body="never")])
            tx.flush()
            tx.session.execute(sa.insert(Thing).values(id=1, body="again"))
        assert conflict.value.field == "id"
        assert rows(plane) == [] and busy(plane) == 0


def test_ctrl_c_between_two_calls(plane: pp.Plane) -> None:
    """The block is rolled back, the plane closes, nothing hangs."""
    with pytest.raises(KeyboardInterrupt), pp.blocking(plane) as p, p.write(actor="ada") as tx:
        tx.add(Thing(id=1, body="never"))
        tx.flush()
        raise KeyboardInterrupt
    assert rows(plane) == [] and busy(plane) == 0


def test_ctrl_c_during_a_call(plane: pp.Plane) -> None:
    """The call is cancelled, at the server too; the plane is as good as before."""
    with pp.blocking(plane) as p:
        for _ in range(2):
            began = perf_counter()
            with pytest.raises(KeyboardInterrupt), p.write(actor="ada") as tx:
                tx.add(Thing(id=1, body="never"))
                tx.flush()
                interrupt_after(0.1)
                tx.execute(sa.text("SELECT pg_sleep(30)"))
            assert perf_counter() - began < 10
            assert rows(plane) == [] and busy(plane) == 0
        with p.write(actor="ada") as tx:
            tx.add(Thing(id=1, body="after"))
        p.settled(tx.token)
    assert rows(plane) == ["after"]


def test_ctrl_c_while_it_opens(own_settings: pp.Settings, plane: pp.Plane) -> None:
    """At any moment, what was opened is closed."""
    for delay_s in (0.01, 0.1, 0.3):
        timer = interrupt_after(delay_s)
        with pytest.raises(KeyboardInterrupt), pp.blocking(plane):
            timer.join()
            raise KeyboardInterrupt  # it was faster
        assert plane._open is None
    with pp.blocking(plane) as p:
        assert p.verify().clean


def test_a_plane_that_cannot_open_says_why(own_settings: pp.Settings) -> None:
    """And leaves no thread."""
    nowhere = pp.Settings.load(
        environ={},
        home=own_settings.home,
        database_url="postgresql://nobody@127.0.0.1:1/none",
        nats_url=own_settings.url("nats_url"),
    )
    with pytest.raises(pp.Unavailable), pp.blocking(pp.Plane(settings=nowhere, models=[Thing])):
        raise AssertionError("never gets here")


def test_two_planes_at_once(plane: pp.Plane, own_settings: pp.Settings) -> None:
    """Each has a loop of its own."""
    second = pp.Plane(settings=own_settings, models=[Thing], flows=False)
    with pp.blocking(plane) as p, pp.blocking(second) as q:
        with q.write(actor="ada") as tx:
            tx.add(Thing(id=1, body="one"))
        p.settled(tx.token)
        assert [hit.text for hit in p[ThingSearch].get([1])] == ["one"]
