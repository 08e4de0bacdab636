"""ClickHouse's HTTP interface in front of chdb, so that the server path runs on a real engine.

No ClickHouse server comes as a wheel. The engine, the SQL, the formats and the errors are
ClickHouse's own here; only the few lines that unpack a request are ours.
"""

from __future__ import annotations

import re
from base64 import b64decode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from tempfile import NamedTemporaryFile
from threading import Thread
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import chdb

PASSWORD: Final = "s3cret"
_TRANSPORT: Final = {
    "client_protocol_version",
    "wait_end_of_query",
    "send_progress_in_http_headers",
    "http_headers_progress_interval_ms",
    "enable_http_compression",
    "query_id",
    "cancel_http_readonly_queries_on_client_close",
}


class ClickHouseHttp:
    """Listens on a port of 127.0.0.1 until `close`."""

    def __init__(self, path: str) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                parts = urlsplit(self.path)
                if parts.path == "/ping":
                    self._reply(200, {}, b"Ok.\n")
                    return
                scheme, _, secret = self.headers.get("Authorization", "").partition(" ")
                if scheme != "Basic" or b64decode(secret).decode() != f"default:{PASSWORD}":
                    text = b"Code: 516. DB::Exception: default: Authentication failed"
                    text += b". (AUTHENTICATION_FAILED)"
                    self._reply(403, {"X-ClickHouse-Exception-Code": "516"}, text)
                    return
                asked = dict(parse_qsl(parts.query, keep_blank_values=True))
                try:
                    answer, form = _run(path, asked, body)
                except RuntimeError as error:
                    code = re.search(r"Code: (\d+)", str(error))
                    headers = {"X-ClickHouse-Exception-Code": code.group(1) if code else "1"}
                    self._reply(500, headers, str(error).encode())
                else:
                    self._reply(200, {"X-ClickHouse-Format": form} if form else {}, answer)

            do_POST = do_GET

            def _reply(self, status: int, headers: dict[str, str], body: bytes) -> None:
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.url = f"clickhouse://default:{PASSWORD}@127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _run(path: str, asked: dict[str, str], body: bytes) -> tuple[bytes, str]:
    """The answer and its format; settings hold for this request, `readonly` after the others."""
    parameters = {n.removeprefix("param_"): v for n, v in asked.items() if n.startswith("param_")}
    sql = asked.pop("query", "")
    database = asked.pop("database", "default")
    settings = {n: v for n, v in asked.items() if not n.startswith("param_")}
    connection = chdb.connect(path)  # type: ignore[no-untyped-call]
    try:
        connection.query(f"USE `{database}`")
        for name in sorted(settings.keys() - _TRANSPORT, key=lambda n: n == "readonly"):
            connection.query(f"SET {name} = '{settings[name]}'")
        if sql.startswith("INSERT"):
            with NamedTemporaryFile() as data:
                data.write(body)
                data.flush()
                insert, _, form = sql.rpartition("FORMAT ")
                connection.query(f"{insert} FROM INFILE '{data.name}' FORMAT {form}")
            return b"", ""
        sql = f"{sql}\n{body.decode()}".strip()
        named = re.search(r"\bFORMAT\s+(\w+)\s*$", sql)
        answers = named or re.match(r"(?:SELECT|WITH|SHOW|DESCRIBE)\b", sql)
        form = named.group(1) if named else "TabSeparated"
        answer: bytes = connection.query(sql, form, params=parameters).bytes() or b""
        return answer, form if answers else ""
    finally:
        connection.close()
