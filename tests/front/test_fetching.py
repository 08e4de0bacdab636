"""What a URL leads to is fetched if it is public, and nothing else is, however it is written."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator

import pytest

from polyplane.errors import Refused, TooLarge, Unavailable
from polyplane.security.addresses import is_public, literal
from polyplane.security.fetching import Fetcher, Rules
from tests.front.lures import PUBLIC, Web, web
from tests.front.ssrf import lure

COUNT = 400


@pytest.fixture
async def found() -> AsyncIterator[Web]:
    async with web() as made:
        yield made


def answer(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    """All of a response, which ends with its connection."""
    kind = headers or ("Content-Type: text/plain",)
    return f"HTTP/1.1 {status}\r\n".encode() + "\r\n".join([*kind, "", ""]).encode() + body


def fetcher(found: Web, **rules: object) -> Fetcher:
    """One to whom the public address is our own server."""
    given: dict[str, object] = {"timeout_s": 30.0, **rules}
    return Fetcher(Rules(**given), resolve=found.resolve, stand_ins=found.stand_ins)  # type: ignore[arg-type]


async def test_no_lure_leads_inwards(found: Web) -> None:
    """More: `python -m tests.front.ssrf_counted`."""
    seed = 20_260
    print(f"seed {seed}")
    report = await lure(found, COUNT, seed)
    assert report.naive_visits > 5, "the canary can be reached by who checks nothing"
    assert (report.urls, report.fetched, report.defects) == (COUNT, [], [])
    assert found.visits == []


async def test_what_is_public_is_fetched(found: Web) -> None:
    found.answers["/page?q=%C3%BC"] = answer(b"hello")
    found.names["xn--bcher-kva.example"] = [[PUBLIC], ["127.0.0.1"]]
    got = await fetcher(found).fetch("http://Bücher.example/page?q=ü#part")
    assert (got.body, got.content_type) == (b"hello", "text/plain")
    assert got.url == "http://xn--bcher-kva.example/page?q=%C3%BC"
    [head] = found.asked
    names = {line.partition(":")[0].lower() for line in head.splitlines()[1:] if line}
    assert names == {"host", "user-agent", "accept", "accept-encoding"}, "no credential"


async def test_redirects_are_followed_so_far_and_looked_at_each(found: Web) -> None:
    found.answers["/end"] = answer(b"there")
    found.leads |= {f"/{n}": f"/{n + 1}" for n in range(9)} | {"/4": "end"}
    assert (await fetcher(found).fetch(f"http://{PUBLIC}/1")).body == b"there"
    with pytest.raises(Refused, match="more than 4 times"):
        await fetcher(found).fetch(f"http://{PUBLIC}/0")
    found.leads["/in"] = f"http://127.0.0.1:{found.canary}/"
    open_ports = frozenset({80, found.canary})
    with pytest.raises(Refused, match="not a public one"):
        await fetcher(found, ports=open_ports).fetch(f"http://{PUBLIC}/in")
    assert found.visits == []


async def test_a_name_that_changes_its_meaning_is_looked_up_once(found: Web) -> None:
    found.answers["/"] = answer(b"hello")
    found.names["rebound.example"] = [[PUBLIC], ["127.0.0.1"]]
    assert (await fetcher(found).fetch("http://rebound.example/")).body == b"hello"
    with pytest.raises(Refused, match="not a public one"):
        await fetcher(found).fetch("http://rebound.example/")
    found.names["both.example"] = [[PUBLIC, "10.0.0.1"]]
    with pytest.raises(Refused, match="not a public one"):
        await fetcher(found).fetch("http://both.example/")


async def test_no_more_is_taken_than_is_bounded(found: Web) -> None:
    zipped = gzip.compress(bytes(50_000_000))
    gzipped = ("Content-Type: text/plain", "Content-Encoding: gzip")
    found.answers |= {
        "/long": answer(bytes(5_000)),
        "/told": answer(b"", "Content-Type: text/plain", "Content-Length: 99999999"),
        "/bomb": answer(zipped, *gzipped),
        "/fits": answer(gzip.compress(bytes(900)), *gzipped),
        "/torn": answer(zipped[:500], *gzipped),
        "/other": answer(b"x", "Content-Type: text/plain", "Content-Encoding: br"),
        "/image": answer(b"x", "Content-Type: image/png"),
        "/none": answer(b"x", "X-Powered-By: x"),
    }
    small = fetcher(found, bytes_max=1_000)
    for path in ("long", "told", "bomb"):
        with pytest.raises(TooLarge):
            await small.fetch(f"http://{PUBLIC}/{path}")
    assert (await small.fetch(f"http://{PUBLIC}/fits")).body == bytes(900)
    for path in ("torn", "other", "image", "none", "missing"):
        with pytest.raises(Refused):
            await fetcher(found).fetch(f"http://{PUBLIC}/{path}")


async def test_who_says_nothing_is_waited_for_so_long(found: Web) -> None:
    found.answers["/silent"] = b""
    with pytest.raises(Unavailable):
        await fetcher(found).fetch(f"http://{PUBLIC}/silent")
    with pytest.raises(Unavailable, match="did not answer within"):
        await fetcher(found, timeout_s=0.3).fetch(f"http://{PUBLIC}/held")
    found.held.set()


@pytest.mark.parametrize("text", ["1.1.1.1", "8.8.8.8", PUBLIC, "2606:4700:4700::1111"])
def test_public_addresses_are(text: str) -> None:
    address = literal(f"[{text}]" if ":" in text else text)
    assert address is not None
    assert is_public(address)


@pytest.mark.parametrize(
    "host", ["1", "0x7f.1", "1.2.3", "01.2.3.4", "1.2.3.4.", "1.1.1.١", "a.0x1"]
)
def test_what_might_be_an_address_to_somebody_is_no_name(host: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        literal(host)
