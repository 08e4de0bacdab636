"""URLs that lead into the network of who fetches them, by every way that is known, and a few more.

`made(seed)` gives so many; what they lead to is a server of ours that counts who comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from itertools import cycle, islice
from random import Random
from typing import Final

PUBLIC: Final = "93.184.215.14"
"""A public address, whose place a server of ours takes."""
INNER: Final = (
    "127.0.0.1",
    "127.1.2.3",
    "0.0.0.0",
    "10.0.0.7",
    "172.16.31.9",
    "192.168.1.1",
    "169.254.169.254",
    "169.254.170.2",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "198.18.0.1",
    "224.0.0.251",
    "255.255.255.255",
    "240.0.0.1",
    "192.88.99.1",
)
INNER_6: Final = (
    "::1",
    "::",
    "fe80::1",
    "fe80::1%25eth0",
    "fe80::1%eth0",
    "fec0::1",
    "fc00::1",
    "fd00:ec2::254",
    "fd20:ce::254",
    "ff02::1",
    "2001:db8::1",
    "2001:0:7f00:1::",
    "100::1",
    "3fff::1",
)
NAMES: Final = (
    "localhost",
    "localhost.",
    "LOCALHOST",
    "foo.localhost",
    "printer.local",
    "metadata.google.internal",
    "metadata",
    "1.0.0.127.in-addr.arpa",
    "kubernetes.default.svc.cluster.local",
    "consul.service.internal",
)
CIRCLED: Final = str.maketrans("0123456789.", "⓪①②③④⑤⑥⑦⑧⑨。")
WIDE: Final = str.maketrans("0123456789.", "０１２３４５６７８９．")
ARABIC: Final = str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩")
BOLD: Final = str.maketrans("0123456789", "𝟎𝟏𝟐𝟑𝟒𝟓𝟔𝟕𝟖𝟗")


@dataclass(slots=True)
class Web:
    """Two servers of ours: one that nobody should reach, and one in a public address's place."""

    canary: int
    public: int
    visits: list[str] = field(default_factory=list)
    """What came to the canary: the first line of each request."""
    leads: dict[str, str] = field(default_factory=dict)
    """Path -> where the public one redirects to."""
    answers: dict[str, bytes] = field(default_factory=dict)
    """Path -> all that the public one sends."""
    asked: list[str] = field(default_factory=list)
    """The heads of requests to the public one."""
    held: asyncio.Event = field(default_factory=asyncio.Event)
    """What `/held` waits for before it answers."""
    names: dict[str, list[list[str]]] = field(default_factory=dict)
    """What a name means at the first time it is asked for, at the second ...; then the last."""

    async def resolve(self, name: str, port: int) -> Sequence[str]:
        """A resolver that never leaves this machine, and lies as told."""
        answers = self.names.get(name, [["127.0.0.1"]])
        return answers.pop(0) if len(answers) > 1 else answers[0]

    @property
    def stand_ins(self) -> dict[str, tuple[str, int]]:
        """Who answers for the public address."""
        return {PUBLIC: ("127.0.0.1", self.public)}


@asynccontextmanager
async def web() -> AsyncIterator[Web]:
    """Both of them, on every loopback address there is."""
    found = Web(0, 0)

    async def canary(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        found.visits.append("connected")
        try:
            found.visits[-1] = (await asyncio.wait_for(reader.readline(), 5)).decode("latin-1")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nsecret")
        finally:
            writer.close()

    async def public(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)).decode("latin-1")
            found.asked.append(head)
            path = head.split(" ")[1]
            if path == "/held":
                await found.held.wait()
            if path in found.leads:
                sent = f"HTTP/1.1 302 Found\r\nLocation: {found.leads[path]}\r\n\r\n".encode()
            else:
                kind = "Content-Type: text/plain\r\nContent-Length: 5"
                missing = f"HTTP/1.1 404 Not Found\r\n{kind}\r\n\r\nhello".encode()
                sent = found.answers.get(path, missing)
            writer.write(sent)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            return  # who fetches has seen enough
        finally:
            writer.close()

    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(await asyncio.start_server(canary, "127.0.0.1", 0))
        found.canary = first.sockets[0].getsockname()[1]
        try:
            other = await asyncio.start_server(canary, "::1", found.canary)
            await stack.enter_async_context(other)
        except OSError:  # a machine without IPv6
            pass
        second = await stack.enter_async_context(await asyncio.start_server(public, "127.0.0.1", 0))
        found.public = second.sockets[0].getsockname()[1]
        yield found


def written(address: str, dice: Random) -> Iterator[str]:
    """One IPv4 address in the ways that some parser or other takes it."""
    number = int(IPv4Address(address))
    a, b, c, d = (int(part) for part in address.split("."))
    yield address
    yield f"{number}"
    yield f"{number:#x}"
    yield f"{number:#o}".replace("0o", "0")
    yield f"{a:#x}.{b:#x}.{c:#x}.{d:#x}"
    yield f"0{a:o}.0{b:o}.0{c:o}.0{d:o}"
    yield f"{a:03d}.{b:03d}.{c:03d}.{d:03d}"
    yield f"{a}.{(b << 16) + (c << 8) + d}"
    yield f"{a}.{b}.{(c << 8) + d}"
    yield f"{a:#x}.{b}.0{c:o}.{d}"
    yield f"{a + 256}.{b}.{c}.{d}"
    yield f"{number + 2**32}"
    yield f"{address}."
    for script in (CIRCLED, WIDE, ARABIC, BOLD):
        yield address.translate(script)
    yield "".join(f"%{ord(it):02x}" for it in address)
    at = dice.randrange(len(address))
    yield f"{address[:at]}%{ord(address[at]):02X}{address[at + 1 :]}"
    yield address.replace(".", "%E3%80%82")
    yield f"[::ffff:{address}]"
    yield f"[::ffff:{number >> 16:x}:{number & 0xFFFF:x}]"
    yield f"[::{address}]"
    yield f"[64:ff9b::{address}]"
    yield f"[64:ff9b:1::{address}]"
    yield f"[2002:{number >> 16:x}:{number & 0xFFFF:x}::]"
    yield f"[::ffff:0:{address}]"
    yield f"[0:0:0:0:0:ffff:{number >> 16:x}:{number & 0xFFFF:x}]"
    yield f"{address}.nip.io"
    yield f"{address.replace('.', '-')}.sslip.io"


def dressed(host: str, port: int, dice: Random) -> Iterator[str]:
    """A host in URLs that programs read differently."""
    at = f"{host}:{port}"
    yield f"http://{at}/"
    yield f"HTTP://{at}/admin"
    yield f"http://{at}"
    yield f"http://ada:secret@{at}/"
    yield f"http://{PUBLIC}@{at}/"
    yield f"http://{at}@{PUBLIC}/"
    yield f"http://{PUBLIC}%23@{at}/"
    yield f"http://{at}#@{PUBLIC}/"
    yield f"http://{PUBLIC}\\@{at}/"
    yield f"http://{at}\\@{PUBLIC}/"
    yield f"http:\\\\{at}\\"
    yield f"http:/{at}/"
    yield f"http:{at}/"
    yield f"//{at}/"
    yield f"http://{at}%00.{PUBLIC}/"
    yield f"http://{PUBLIC}%0d%0aHost:%20{at}/"
    yield f"http://{PUBLIC}\r\nHost: {at}/"
    yield f" http://{at}/"
    yield f"http://\t{at}/"
    yield f"ht\ntp://{at}/"
    yield f"http://{host}:{port:05d}/"
    yield f"http://{host}:+{port}/"
    yield f"http://{host}:{port}:80/"
    yield f"http://{PUBLIC}:80:{at}/"
    yield f"http://{PUBLIC},{at}/"
    yield f"http://{PUBLIC} {at}/"
    yield f"http://{PUBLIC}&@{at}/"
    yield f"http://{dice.choice(['gopher', 'dict', 'ftp', 'ldap'])}://{at}/"


def other_schemes(port: int) -> Iterator[str]:
    """What is not HTTP at all."""
    for scheme in ("file", "gopher", "dict", "ftp", "ldap", "jar", "netdoc", "data", "tftp", "ws"):
        yield f"{scheme}://127.0.0.1:{port}/"
    yield from (
        "file:///etc/passwd",
        "file://localhost/etc/passwd",
        "unix:///run/x.sock",
        "http+unix://%2Frun%2Fx.sock/",
        "jar:http://127.0.0.1!/",
        "data:text/html,x",
        "javascript:fetch('/')",
        f"view-source:http://127.0.0.1:{port}/",
        f"url:http://127.0.0.1:{port}/",
        "",
        "http://",
        "http:///",
        "http://:80/",
        "http://[/",
        "http://[::1",
        "http://]/",
        "https://",
        "x" * 3_000,
    )
    for odd in (0, 22, 25, 53, 111, 2375, 4222, 5432, 6379, 8123, 9000, 65_535, 65_536, 99_999):
        yield f"http://{PUBLIC}:{odd}/"


def led(found: Web, dice: Random, inner: Callable[[], str]) -> Iterator[str]:
    """Names that mean something else the next time, and public pages that lead inwards."""
    number = 0
    while True:
        number += 1
        name = f"n{number}-{dice.randrange(1 << 30):x}.example.net"
        local = f"127.0.0.{dice.randrange(1, 255)}"
        answers: list[list[str]] = dice.choice(
            [
                [["127.0.0.1"]],
                [[local], [PUBLIC]],
                [[PUBLIC, local]],
                [[local, PUBLIC]],
                [["::1"]],
                [["::ffff:127.0.0.1"]],
                [["fe80::1%lo"]],
                [["169.254.169.254"]],
                [[]],
                [["64:ff9b::7f00:1"]],
            ]
        )
        found.names[name] = answers
        yield f"http://{name}:{found.canary}/"
        path = f"/r{number}"
        found.leads[path] = inner()
        yield f"http://{PUBLIC}{path}"
        twice = f"/t{number}"
        found.leads[twice] = dice.choice([path, f"//{PUBLIC}{path}", f"http://{PUBLIC}{path}"])
        yield f"http://{PUBLIC}{twice}"
        rebound = f"b{number}.example.net"
        found.names[rebound] = [[PUBLIC], ["127.0.0.1"]]
        found.leads[f"/b{number}"] = f"http://{rebound}:{found.canary}/"
        yield f"http://{rebound}/b{number}"


def made(found: Web, count: int, seed: int) -> list[str]:
    """So many URLs, of all kinds; the same for the same seed."""
    dice = Random(seed)
    hosts = [form for address in INNER for form in written(address, dice)]
    hosts += [f"[{it}]" for it in INNER_6] + list(NAMES)
    dice.shuffle(hosts)
    around = cycle(hosts)
    port = found.canary

    def inner() -> str:
        return dice.choice(list(dressed(next(around), port, dice)))

    plain = [f"http://{host}:{port}/" for host in hosts]
    every = [*other_schemes(port), *dressed("127.0.0.1", port, dice), *dressed("[::1]", port, dice)]
    urls = [*every, *plain[: count // 2]]
    leading = led(found, dice, inner)
    while len(urls := list(dict.fromkeys(urls))) < count:
        urls += [inner(), *islice(leading, 4)]
    return urls[:count]
