"""An OAuth provider on a socket, as real ones are: two kinds of refresh tokens, and bad days."""

from __future__ import annotations

import asyncio
import socket
from base64 import urlsafe_b64encode
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from secrets import token_urlsafe
from typing import Any, Final
from urllib.parse import parse_qs, urlencode

import uvicorn
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from polyplane.providers import OAuthProvider

CLIENT: Final = "polyplane-tests"
SECRET: Final = "a secret of the client, only theirs"
BACK: Final = "https://assistant.example.org/back"


class Provider:
    """What it has given, what it was asked, and how it is to answer next.

    At `rotating` a refresh token holds once, at `steady` for ever. `next_status` is answered once
    in place of tokens; with `is_silent` it does what it is asked, and its answer never comes.
    """

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.refreshes: Counter[str] = Counter()
        self.reused = 0
        self.expires_s = 3600
        self.next_status = 0
        self.next_error = "invalid_grant"
        self.is_silent = False
        self.heard = asyncio.Event()
        self.holds = asyncio.Event()
        self.holds.set()
        self._codes: dict[str, tuple[str, str]] = {}
        self._valid: set[str] = set()
        self._used: set[str] = set()

    def declared(self, kind: str, *, rotates: bool) -> OAuthProvider:
        """How it is declared."""
        return OAuthProvider(
            authorization_url=f"{self.url}/{kind}/authorize",
            token_url=f"{self.url}/{kind}/token",
            redirect_url=BACK,
            client_id=CLIENT,
            client_secret=SecretStr(SECRET),
            scopes=("mail.read", "mail.send"),
            rotates=rotates,
        )

    def gives(self) -> str:
        """A refresh token that holds, as somebody may have who was here before."""
        token = f"r-{token_urlsafe(24)}"
        self._valid.add(token)
        return token

    async def authorize(self, request: Request) -> Response:
        """Consent is given at once."""
        asked = request.query_params
        code = token_urlsafe(16)
        self._codes[code] = (asked["code_challenge"], asked["redirect_uri"])
        back = urlencode({"code": code, "state": asked["state"]})
        return RedirectResponse(f"{asked['redirect_uri']}?{back}", status_code=302)

    async def token(self, request: Request) -> Response:
        """Codes and refresh tokens against tokens."""
        form = {name: it[0] for name, it in parse_qs((await request.body()).decode()).items()}
        if not request.headers.get("authorization", "").startswith("Basic "):
            return JSONResponse({"error": "invalid_client"}, status_code=401)
        if form["grant_type"] == "authorization_code":
            return self._exchanged(form)
        self.refreshes[form["refresh_token"]] += 1
        self.heard.set()
        await self.holds.wait()
        if status := self.next_status:
            self.next_status = 0
            return JSONResponse({"error": self.next_error}, status_code=status)
        if form["refresh_token"] not in self._valid:
            self.reused += form["refresh_token"] in self._used
            return JSONResponse({"error": "invalid_grant"}, status_code=400)
        if request.path_params["kind"] == "rotating":
            self._valid.discard(form["refresh_token"])
            self._used.add(form["refresh_token"])
            answer = self._made(self.gives())
        else:
            answer = self._made(None)
        if self.is_silent:
            await asyncio.sleep(3_600)
        return answer

    def _exchanged(self, form: dict[str, str]) -> Response:
        challenge, redirect = self._codes.pop(form["code"], ("", ""))
        made = urlsafe_b64encode(sha256(form["code_verifier"].encode()).digest()).rstrip(b"=")
        if made.decode() != challenge or form["redirect_uri"] != redirect:
            return JSONResponse({"error": "invalid_grant"}, status_code=400)
        return self._made(self.gives())

    def _made(self, refresh: str | None) -> Response:
        made: dict[str, Any] = {
            "access_token": f"a-{token_urlsafe(24)}",
            "token_type": "Bearer",
            "expires_in": self.expires_s,
            "scope": "mail.read",
        }
        return JSONResponse(made | ({} if refresh is None else {"refresh_token": refresh}))


@asynccontextmanager
async def providing() -> AsyncIterator[Provider]:
    """One that listens until the block ends."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    provider = Provider(listening.getsockname()[1])
    app = Starlette(
        routes=[
            Route("/{kind}/authorize", provider.authorize),
            Route("/{kind}/token", provider.token, methods=["POST"]),
        ]
    )
    config = uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    serving = asyncio.create_task(server._serve(sockets=[listening]))
    async with asyncio.timeout(10):
        while not server.started:
            await asyncio.sleep(0.01)
    try:
        yield provider
    finally:
        server.should_exit = server.force_exit = True
        await serving
        listening.close()
