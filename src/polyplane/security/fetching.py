"""Getting what a URL names that somebody else gave us, without being sent into our own network.

A name is resolved once, every address it has is checked, and the connection goes to one of those
and to nothing else, whatever the name means a moment later; each redirect is a new URL. httpcore
speaks HTTP, over a network backend of ours that can reach nothing but the addresses it was given.
It knows no proxies, cookies or .netrc, so nothing of ours is sent along.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import zlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import quote, urljoin, urlsplit

import httpcore
import idna

from polyplane.errors import Refused, TooLarge, Unavailable
from polyplane.security.addresses import Address, is_public, literal

URL_MAX: Final = 2_048
NAME_MAX: Final = 253
ADDRESSES_MAX: Final = 16
CONNECT_TIMEOUT_S: Final = 5.0
AGENT: Final = "polyplane"

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_PORTS: Final[Mapping[str, int]] = {"http": 80, "https": 443}
_PLACE: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:@/?#]+)(?::([0-9]{1,5}))?")
_NAME: Final = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{1,62}")
_INNER: Final = (".arpa", ".internal", ".local", ".localhost", ".onion")
"""Names that mean something inside some network only."""
_UNSAFE: Final = re.compile(r"[\x00-\x20\x7f\\]")

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""The addresses of a name, as texts."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What may be fetched, and how much of it. Sizes are of what is kept, decompressed."""

    schemes: frozenset[str] = frozenset({"https", "http"})
    ports: frozenset[int] = frozenset(_PORTS.values())
    types: tuple[str, ...] = ("text/", "application/json", "application/pdf", "application/xml")
    """Beginnings of content types."""
    bytes_max: int = 16 * 2**20
    redirects_max: int = 4
    timeout_s: float = 20.0
    """For all of it, redirects included."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """What was there in the end."""

    url: str
    content_type: str
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Target:
    """A URL that may be asked for, if its host has public addresses."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def url(self) -> str:
        """As it is asked for."""
        return f"{self.scheme}://{self.place}{self.path}"

    @property
    def place(self) -> str:
        """The host and, unless it is the usual one, the port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


async def resolved(name: str, port: int) -> Sequence[str]:
    """What the system's resolver says."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


class Fetcher:
    """Fetches by `rules`. `stand_ins` is for tests: what is connected to in an address's place,
    once that has been found to be public.
    """

    def __init__(
        self,
        rules: Rules | None = None,
        *,
        resolve: Resolve = resolved,
        stand_ins: Mapping[str, tuple[str, int]] | None = None,
    ) -> None:
        self._rules = rules or Rules()
        self._resolve = resolve
        self._stand_ins = dict(stand_ins or {})
        self._tls = ssl.create_default_context()

    async def fetch(self, url: str) -> Fetched:
        """What `url` leads to.

        Raises Refused for what may not be fetched, TooLarge, and Unavailable for what cannot be.
        """
        rules = self._rules
        try:
            async with asyncio.timeout(rules.timeout_s):
                return await self._followed(checked(url, rules))
        except (TimeoutError, httpcore.TimeoutException):
            raise Unavailable(f"It did not answer within {rules.timeout_s:g} s.") from None
        except (httpcore.NetworkError, httpcore.ProtocolError, OSError) as error:
            raise Unavailable(f"It could not be fetched: {type(error).__name__}.") from error

    async def _followed(self, target: Target) -> Fetched:
        for _ in range(self._rules.redirects_max + 1):
            found = await self._asked(target)
            if isinstance(found, Fetched):
                return found
            after = checked(urljoin(target.url, found), self._rules)
            if target.scheme == "https" != after.scheme:
                raise _refused("It leads from HTTPS to plain HTTP.")
            target = after
        raise _refused(f"It leads further more than {self._rules.redirects_max} times.")

    async def _asked(self, target: Target) -> Fetched | str:
        """What is there, or where it is."""
        backend = _Pinned(await self._addresses(target), self._stand_ins)
        async with (
            httpcore.AsyncConnectionPool(
                ssl_context=self._tls, max_connections=1, network_backend=backend
            ) as pool,
            pool.stream(
                "GET",
                httpcore.URL(
                    scheme=target.scheme.encode(),
                    host=target.host.encode(),
                    port=target.port,
                    target=target.path.encode(),
                ),
                headers={
                    "Host": target.place,
                    "User-Agent": AGENT,
                    "Accept": "*/*",
                    "Accept-Encoding": "gzip, identity",
                },
                extensions={"timeout": dict.fromkeys(_TIMEOUTS, self._rules.timeout_s)},
            ) as response,
        ):
            headers = _plain(response.headers)
            if response.status in _REDIRECTS and "location" in headers:
                return headers["location"]
            if response.status != 200:
                raise _refused(f"It answered {response.status}.")
            content_type = headers.get("content-type", "")
            if not content_type.lower().startswith(self._rules.types):
                raise _refused("It is of another kind than may be fetched.")
            body = await _body(response, headers, self._rules.bytes_max)
            return Fetched(target.url, content_type, body)

    async def _addresses(self, target: Target) -> list[Address]:
        """All there are: one that is not public among them, and none counts."""
        own = literal(target.host)
        if own is not None:
            found = [own]
        else:
            told = list(dict.fromkeys(await self._resolve(target.host, target.port)))
            found = list(map(ip_address, told))
        if not found or not all(map(is_public, found)):
            raise _refused("Its host is not a public one.")
        return found[:ADDRESSES_MAX]


_TIMEOUTS: Final = ("connect", "read", "write", "pool")


def checked(url: str, rules: Rules) -> Target:
    """The parts of `url`. Raises Refused for what no rule of `rules` lets through."""
    if len(url) > URL_MAX or _UNSAFE.search(url):
        raise _refused("It is no URL.")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise _refused("It is no URL.") from None
    scheme = parts.scheme.lower()
    if scheme not in rules.schemes or scheme not in _PORTS:
        raise _refused("Its scheme is not one that may be fetched.")
    place = _PLACE.fullmatch(parts.netloc)
    if place is None:
        raise _refused("It names no host alone: no user, no password.")
    port = int(place[2] or _PORTS[scheme])
    if port not in rules.ports:
        raise _refused("Its port is not one that may be asked.")
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
    query = quote(parts.query, safe="/%:@!$&'()*+,;=~-._?")
    return Target(scheme, _host(place[1]), port, f"{path}?{query}" if query else path)


def _host(given: str) -> str:
    """A name in its one form, or an address."""
    try:
        host = given.lower()
        if not host.isascii():  # strictly: what looks like digits is none
            host = idna.encode(host).decode("ascii")
        address = literal(host)
    except (ValueError, UnicodeError):
        raise _refused("Its host is neither a name nor an address.") from None
    if address is not None:
        return str(address)
    name = host.removesuffix(".")
    if len(name) > NAME_MAX or not _NAME.fullmatch(name) or name.endswith(_INNER):
        raise _refused("Its host is no name of the public internet.")
    return name


def _refused(why: str) -> Refused:
    return Refused(f"This URL is not fetched. {why}", field="url")


def _plain(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    return {name.decode("latin-1").lower(): it.decode("latin-1") for name, it in headers}


async def _body(response: httpcore.Response, headers: Mapping[str, str], limit: int) -> bytes:
    """The body, decompressed as it comes: never more than `limit` and one piece is held."""
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip", ""):
        raise _refused("It is compressed in a way that was not asked for.")
    if encoding != "gzip" and int(_number(headers.get("content-length"))) > limit:
        raise _too_large(limit)
    inflate = zlib.decompressobj(wbits=31) if encoding == "gzip" else None
    body, came = bytearray(), 0
    async for piece in response.aiter_stream():
        came += len(piece)
        try:
            body += piece if inflate is None else inflate.decompress(piece, limit - len(body) + 1)
        except zlib.error:
            raise _refused("It is not compressed as it says.") from None
        if len(body) > limit or came > limit:
            raise _too_large(limit)
    if inflate is not None and not inflate.eof:
        raise _refused("It is not compressed as it says.")
    return bytes(body)


def _number(text: str | None) -> str:
    return text if text and text.isascii() and text.isdigit() and len(text) < 19 else "0"


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"It has more than {limit:,} bytes.", field="url")


class _Pinned(httpcore.AsyncNetworkBackend):
    """A network of these addresses alone."""

    def __init__(
        self, addresses: Sequence[Address], stand_ins: Mapping[str, tuple[str, int]]
    ) -> None:
        self._addresses = addresses
        self._stand_ins = stand_ins
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """To the first of them that answers; `host` is the name that was resolved to them."""
        failed: Exception | None = None
        for address in self._addresses:
            where, at = self._stand_ins.get(str(address), (str(address), port))
            try:
                return await self._network.connect_tcp(where, at, CONNECT_TIMEOUT_S)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = error
        assert failed is not None
        raise failed

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Never."""
        raise _refused("It is a socket of this machine.")

    async def sleep(self, seconds: float) -> None:
        """Between retries, of which there are none."""
        await asyncio.sleep(seconds)
