"""A provider of OpenID Connect that says whatever a test has it say, over real HTTP.

It keeps the rules that a client relies on: a code is good once, for whom it was made and for who
knows the verifier. All else is the test's: claims, headers, keys, endpoints that fail.
"""

from __future__ import annotations

import asyncio
from base64 import b64decode
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import time
from typing import Any
from urllib.parse import parse_qs, unquote
from uuid import uuid4

from authlib.oauth2.rfc7636 import create_s256_code_challenge
from joserfc import jwt
from joserfc.jwk import Key, KeySet, RSAKey
from joserfc.jws import JWSRegistry
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from polyplane.serve.api.server import Server, bind

CLIENT = "the-plane"
SECRET = "a secret: of the client"


def new_key(name: str) -> RSAKey:
    """One that signs."""
    return RSAKey.generate_key(2048, {"kid": name, "use": "sig"})


@dataclass(slots=True)
class Grant:
    """What a code is good for."""

    asked: dict[str, str]
    claims: dict[str, Any]
    header: dict[str, Any]
    key: Key
    token: dict[str, Any]


@dataclass(slots=True)
class Forger:
    """Several issuers at one address: `/<name>`."""

    url: str = ""
    key: RSAKey = field(default_factory=lambda: new_key("first"))
    published: list[RSAKey] = field(default_factory=list)
    grants: dict[str, Grant] = field(default_factory=dict)
    told: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What userinfo says, by access token."""
    calls: Counter[str] = field(default_factory=Counter)
    about: dict[str, Any] = field(default_factory=dict)
    """What its description says other than it should."""
    hangs: bool = False

    def issuer(self, name: str) -> str:
        """One of them."""
        return f"{self.url}/{name}"

    def agrees(
        self,
        asked: dict[str, str],
        name: str,
        *,
        header: dict[str, Any] | None = None,
        key: Key | None = None,
        token: dict[str, Any] | None = None,
        **claims: Any,
    ) -> str:
        """The code for somebody who was sent with `asked`; a claim that is None is left out."""
        now = int(time())
        said = {
            "iss": self.issuer(name),
            "aud": CLIENT,
            "sub": uuid4().hex,
            "iat": now,
            "exp": now + 300,
            "nonce": asked["nonce"],
            **claims,
        }
        said = {name: value for name, value in said.items() if value is not None}
        code = uuid4().hex
        signed_by = key or self.key
        head = {"alg": "RS256", "kid": signed_by.kid or self.key.kid, **(header or {})}
        self.grants[code] = Grant(asked, said, head, signed_by, token or {})
        return code

    def app(self) -> Starlette:
        """Its routes."""
        return Starlette(
            routes=[
                Route("/{name}/.well-known/openid-configuration", self._about),
                Route("/keys", self._keys),
                Route("/token", self._token, methods=["POST"]),
                Route("/userinfo", self._userinfo),
            ]
        )

    async def _about(self, request: Request) -> Response:
        self.calls["about"] += 1
        while self.hangs:
            await asyncio.sleep(0.02)
        return JSONResponse(
            {
                "issuer": self.issuer(request.path_params["name"]),
                "authorization_endpoint": f"{self.url}/authorize?of=it",
                "token_endpoint": f"{self.url}/token",
                "jwks_uri": f"{self.url}/keys",
                "userinfo_endpoint": f"{self.url}/userinfo",
                "id_token_signing_alg_values_supported": ["RS256", "HS256", "none"],
                **self.about,
            }
        )

    async def _keys(self, request: Request) -> Response:
        self.calls["keys"] += 1
        return JSONResponse(KeySet(list(self.published)).as_dict(private=False))

    async def _token(self, request: Request) -> Response:
        self.calls["token"] += 1
        given = {name: it[0] for name, it in parse_qs((await request.body()).decode()).items()}
        kind, _, basic = request.headers.get("authorization", "").partition(" ")
        who = unquote(b64decode(basic).decode()) if kind == "Basic" else ""
        if who != f"{CLIENT}:{SECRET}":
            return JSONResponse({"error": "invalid_client"}, 401)
        grant = self.grants.pop(given.get("code", ""), None)
        if (
            grant is None
            or given.get("redirect_uri") != grant.asked["redirect_uri"]
            or create_s256_code_challenge(given.get("code_verifier", ""))
            != grant.asked["code_challenge"]
        ):
            return JSONResponse({"error": "invalid_grant"}, 400)
        access = uuid4().hex
        self.told[access] = {"sub": grant.claims.get("sub", ""), **grant.token.pop("told", {})}
        every = JWSRegistry(algorithms=["RS256", "HS256", "none"], strict_check_header=False)
        token = jwt.encode(grant.header, grant.claims, grant.key, registry=every)
        answer = {"access_token": access, "token_type": "Bearer", "id_token": token}
        return JSONResponse({**answer, **grant.token})

    async def _userinfo(self, request: Request) -> Response:
        self.calls["userinfo"] += 1
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        return JSONResponse(self.told.get(token, {}), 200 if token in self.told else 401)


@asynccontextmanager
async def forging() -> AsyncIterator[Forger]:
    """One that serves on a free port."""
    forger = Forger()
    forger.published.append(forger.key)
    with bind("127.0.0.1", 0, or_any=False) as at:
        forger.url = f"http://127.0.0.1:{at.getsockname()[1]}"
        server = Server(forger.app())
        serving = asyncio.create_task(server.serve(sockets=[at]))
        try:
            yield forger
        finally:
            forger.hangs = False
            server.should_exit = True
            await serving
