"""An embeddings endpoint of our own, over real HTTP, that fails as it is told."""

from __future__ import annotations

from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, Self
from zlib import crc32

import numpy as np
import orjson

DIMENSIONS = 12

Answer = tuple[int, dict[str, str], bytes]
"""Status, headers, body. The status 0 closes the connection without a word."""


def vector(text: str, dimensions: int = DIMENSIONS) -> list[float]:
    """What follows from a text."""
    found: list[float] = (
        np.random.default_rng(crc32(text.encode())).normal(size=dimensions).tolist()
    )
    return found


def tokens(text: str) -> int:
    """What the endpoint counts a text as."""
    return len(text.split()) + 1


def good(request: dict[str, Any]) -> Answer:
    """What an endpoint answers, in no order."""
    texts = request["input"]
    rows = [
        {"object": "embedding", "index": i, "embedding": vector(text, request["dimensions"])}
        for i, text in enumerate(texts)
    ]
    total = sum(map(tokens, texts))
    usage = {"prompt_tokens": total, "total_tokens": total}
    return 200, {}, orjson.dumps({"object": "list", "data": rows[::-1], "usage": usage})


class Endpoint:
    """A small embeddings endpoint, which keeps what it was sent. Its `answer` may be changed."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.answer: Callable[[dict[str, Any]], Answer] = good
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = orjson.loads(self.rfile.read(int(self.headers["Content-Length"])))
                endpoint.requests.append((self.path, dict(self.headers), body))
                status, headers, answer = endpoint.answer(body)
                if not status:
                    self.close_connection = True
                    return
                self.send_response(status)
                for name, value in {"Content-Length": str(len(answer)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer)
                if int(headers.get("Content-Length", len(answer))) != len(answer):
                    self.close_connection = True

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._thread = Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.base = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        self.url = f"{self.base}?model=tiny&dimensions={DIMENSIONS}"

    @property
    def texts(self) -> list[str]:
        """Every text it was sent."""
        return [text for _, _, body in self.requests for text in body["input"]]

    def close(self) -> None:
        """Stop."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
