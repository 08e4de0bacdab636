"""Refusals on the wire: what is too much is answered before it is looked at.

To parse a request and take it through all layers costs a third of a millisecond, which the refused
take from those that are done. So while there is no place for it, a request that came whole is
answered with the same few bytes as all others. What is in doubt takes the usual way, and is refused
there.
"""

from __future__ import annotations

import re
from typing import Final, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from polyplane.edge.places import Places
from polyplane.ops.metrics import Metrics
from polyplane.serve.api.overload import HEADERS, PROBLEM_BODY, is_exempt

_START: Final = re.compile(rb"(?:GET|POST|PUT|PATCH|DELETE) (/[!-~]*) HTTP/1\.1\r\n")
_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,8})\r\n")
_DOUBTFUL: Final = (b"\r\nexpect", b"\r\ntransfer-encoding", b"\r\nupgrade", b"\r\n ", b"\r\n\t")
_STATUS: Final = b"HTTP/1.1 503 Service Unavailable\r\n"


def is_whole(received: bytes) -> bool:
    """Whether this is exactly one request, and not one that a monitor may ask at any time."""
    start = _START.match(received)
    end = received.find(b"\r\n\r\n")
    if start is None or end < 0 or is_exempt(start[1].partition(b"?")[0].decode()):
        return False
    head = received[: end + 2].lower()
    if any(it in head for it in _DOUBTFUL):
        return False
    if head.count(b"\r\nconnection") != head.count(b"\r\nconnection: keep-alive\r\n"):
        return False
    lengths = _LENGTH.findall(head)
    if head.count(b"\r\ncontent-length") != len(lengths) or len(lengths) > 1:
        return False
    return len(received) == end + 4 + (int(lengths[0]) if lengths else 0)


class Wire(H11Protocol):
    """HTTP/1.1 that answers whole requests unread when there is no place for them."""

    places: Places
    metrics: Metrics

    def data_received(self, data: bytes) -> None:
        """Some of a request, or all of it, has come."""
        if not self.places.expect() and self._is_between() and is_whole(data):
            self._unset_keepalive_if_required()
            self.metrics.refuse()
            self.transport.write(_REFUSAL)
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
        else:
            super().data_received(data)

    def _is_between(self) -> bool:
        """Whether nothing of a request, or of its answer, is under way."""
        is_done = self.cycle is None or self.cycle.response_complete
        is_idle = self.conn.their_state is h11.IDLE and not self.conn.trailing_data[0]
        return is_done and is_idle and not self.flow.write_paused


def wire_of(places: Places, metrics: Metrics) -> type[Wire]:
    """The protocol for one API."""
    return cast(type[Wire], type("Wire", (Wire,), {"places": places, "metrics": metrics}))


_REFUSAL: Final = b"".join(
    (
        _STATUS,
        *(b"%b: %b\r\n" % it for it in HEADERS),
        b"cache-control: no-store\r\nx-content-type-options: nosniff\r\n",
        b"content-length: %d\r\n\r\n" % len(PROBLEM_BODY),
        PROBLEM_BODY,
    )
)
