"""Seals over audit: each signs a Merkle root over rows and the hash of the seal before it.

Who has the database and not the key can change what they like, and not the seals: every change
shows. Who has only the seals can check that they are one unbroken chain of this key's.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from binascii import Error as NotBase64
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from typing import Any, Final, NamedTuple, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from polyplane.errors import Misconfigured
from polyplane.model.digest import canonical
from polyplane.security.merkle import leaf, root

NOTHING: Final = "0" * 64
"""What stands before the first seal."""
BEFORE_EVERYTHING: Final = "1:1:"
"""A snapshot in which nothing is visible."""

Span = tuple[int, int]
"""From and to, both within."""


@dataclass(frozen=True, slots=True)
class Seal:
    """One link of the chain.

    Over `rows` rows with the numbers `seqs`; with all seals before it, over `total`. `at` is when,
    and `since` when the last seal was made that left nothing out: no row is older. `snapshot` and
    `pages` say to who goes on what is sealed (see audit_tables.sql), in the database `cluster`.
    `key` is the public half of the key that signed it.
    """

    number: int
    previous: str
    root: str
    rows: int
    total: int
    seqs: tuple[Span, ...]
    at: str
    since: str
    snapshot: str
    pages: int
    cluster: str
    key: str
    signature: str = ""

    @property
    def body(self) -> bytes:
        """What is signed."""
        return canonical({**asdict(self), "signature": ""})

    @property
    def hash(self) -> str:
        """What the next one names; the signature is in it."""
        return sha256(self.line.encode()).hexdigest()

    @property
    def line(self) -> str:
        """The seal as one line of JSON."""
        return canonical(asdict(self)).decode()

    @classmethod
    def parse(cls, line: str | bytes) -> Self:
        """The seal on a line of JSON. Raises ValueError when it is none."""
        try:
            return cls.of(json.loads(line))
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError("This is no seal.") from error

    @classmethod
    def of(cls, found: dict[str, Any]) -> Self:
        """The seal of a JSON object; ValueError, TypeError or KeyError when it is none."""
        spans = tuple((int(first), int(last)) for first, last in found["seqs"])
        return cls(**{**found, "seqs": spans})


class Leaf(NamedTuple):
    """A row as a seal sees it: its number, and the SHA-256 of its content."""

    seq: int
    content: bytes

    @property
    def hash(self) -> bytes:
        """Its hash in the tree."""
        return leaf(self.seq.to_bytes(8, "big", signed=True) + self.content)


class SealingKey:
    """The key that signs. Only the process that seals has it."""

    def __init__(self, text: str) -> None:
        """From 32 random bytes in URL-safe base64. Raises Misconfigured for anything else."""
        try:
            seed = urlsafe_b64decode(text + "=" * (-len(text) % 4))
        except (ValueError, NotBase64):
            seed = b""
        if len(seed) != 32 or len(set(seed)) < 8:
            raise Misconfigured(
                "The key of audit is not 32 random bytes in base64.",
                fix="Leave audit_key out, and the home makes one.",
            )
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self.public = self._private.public_key().public_bytes_raw().hex()

    def signed(self, seal: Seal) -> Seal:
        """`seal` with this key and its signature."""
        named = replace(seal, key=self.public, signature="")
        return replace(named, signature=self._private.sign(named.body).hex())


def is_signed(seal: Seal, keys: Collection[str]) -> bool:
    """Whether one of the public `keys` has signed it."""
    if seal.key not in keys:
        return False
    try:
        public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(seal.key))
        signature = bytes.fromhex(seal.signature)
        public.verify(signature, seal.body)
    except (InvalidSignature, ValueError):
        return False
    return signature.hex() == seal.signature  # there is one way to write it


def sealed(
    head: Seal | None,
    rows: Sequence[Leaf],
    *,
    at: str,
    snapshot: str,
    cluster: str,
    is_page: bool,
    key: SealingKey,
) -> Seal:
    """The seal over `rows`, in the order of their numbers, after `head`.

    `snapshot` is the one they were read in; `is_page`: there are more of them.
    """
    start = start_after(head, cluster)
    return key.signed(
        Seal(
            number=head.number + 1 if head else 1,
            previous=head.hash if head else NOTHING,
            root=root([row.hash for row in rows]).hex(),
            rows=len(rows),
            total=len(rows) + (head.total if head else 0),
            seqs=spans_of(row.seq for row in rows),
            at=at,
            since=start.since,
            snapshot=start.snapshot if is_page else snapshot,
            pages=start.pages + 1 if is_page else 0,
            cluster=cluster,
            key="",
        )
    )


class Start(NamedTuple):
    """Where to look for what is not sealed: since `snapshot`, but not under the last `pages`
    seals; no row of it is older than `since`, where that is known.
    """

    snapshot: str
    pages: int
    since: str


def start_after(head: Seal | None, cluster: str) -> Start:
    """Where the seal after `head` begins, in this cluster."""
    if head is None:
        return Start(BEFORE_EVERYTHING, 0, "")
    if head.cluster != cluster:  # restored elsewhere: numbers of transactions say nothing now
        return Start(BEFORE_EVERYTHING, head.number, "")
    return Start(head.snapshot, head.pages, head.since if head.pages else head.at)


def spans_of(seqs: Iterable[int]) -> tuple[Span, ...]:
    """Ascending numbers as spans without gaps."""
    spans: list[Span] = []
    for seq in seqs:
        if spans and spans[-1][1] == seq - 1:
            spans[-1] = (spans[-1][0], seq)
        else:
            spans.append((seq, seq))
    return tuple(spans)


def is_visible(xid: int, snapshot: str) -> bool:
    """Whether what the transaction `xid` wrote is visible in a snapshot of PostgreSQL's."""
    xmin, xmax, *running = snapshot.split(":")
    if xid < int(xmin):
        return True
    under_way = set(running[0].split(",")) if running else set()
    return xid < int(xmax) and str(xid) not in under_way
