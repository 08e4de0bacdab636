"""One provider of OpenID Connect: where it sends people, and whom its tokens name.

Only what its documents say is believed, and only over TLS (or on this machine): its issuer is the
one that is declared, its signatures hold by its own keys, and its tokens are for us and for this
sign-in. Each call has a deadline, and no answer may be longer than a bound.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from time import monotonic
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import orjson
import structlog
from authlib.oauth2.auth import ClientAuth
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri, prepare_token_request
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import BadSignatureError, InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet
from joserfc.jws import JWSRegistry

from polyplane.access.external import Person
from polyplane.errors import Misconfigured, Refused, Unauthenticated, Unavailable
from polyplane.providers import OidcProvider
from polyplane.security.emails import checked_email
from polyplane.security.handshake import Words
from polyplane.security.transport import is_loopback

_log = structlog.get_logger("polyplane.identity")

CALL_S: Final = 5.0
"""Deadline of one call; a sign-in has four at most."""
AT_ONCE: Final = 8
ANSWER_MAX_BYTES: Final = 1 << 20
KNOWN_FOR_S: Final = 3600.0
"""For how long what a provider says of itself, and its keys, are not asked for again."""
KEYS_AGAIN_S: Final = 10.0
"""How soon its keys are asked for again when one is not among them: it may have new ones."""
LEFT_ALONE_S: Final = 1.0
"""For how long one that did not answer is not asked again: nobody waits in line for it."""
LEEWAY_S: Final = 60
"""How wrong the clocks may be."""
SCOPES: Final = "openid email profile"
ALGORITHMS: Final = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "Ed25519", "EdDSA"),
)
"""Signatures by a key that only the provider has: no `none`, and no secret that we have, too."""
_SUBJECT_MAX: Final = 255
_NAME_MAX: Final = 200
_ENDPOINTS: Final = ("authorization_endpoint", "token_endpoint", "jwks_uri")


class Provider:
    """A provider as it is declared. It is asked for nothing before somebody signs in."""

    def __init__(self, name: str, declared: OidcProvider) -> None:
        """Raises Misconfigured for an issuer that is not reached by TLS."""
        if not _is_safe(declared.issuer):
            raise Misconfigured(
                f"The issuer of the provider {name} is no https:// URL.",
                fix="Write it as its tokens name it; only on this machine it may be http://.",
            )
        self.name = name
        self.declared = declared
        self._client = httpx.AsyncClient(
            timeout=CALL_S,
            limits=httpx.Limits(max_connections=AT_ONCE),
            headers={"Accept": "application/json", "Accept-Encoding": "identity"},
            follow_redirects=False,
            trust_env=not is_loopback(urlsplit(declared.issuer).hostname or ""),
        )
        self._turn = asyncio.Lock()
        self._about: dict[str, Any] = {}
        self._about_until = 0.0
        self._keys: KeySet | None = None
        self._keys_at = 0.0
        self._down_until = 0.0

    async def address(self, redirect_uri: str, words: Words) -> str:
        """Where to send somebody who signs in. Raises Unavailable."""
        about = await self._described()
        found: str = prepare_grant_uri(
            about["authorization_endpoint"],
            self.declared.client_id,
            "code",
            redirect_uri=redirect_uri,
            scope=SCOPES,
            state=words.state,
            nonce=words.nonce,
            code_challenge=create_s256_code_challenge(words.verifier),
            code_challenge_method="S256",
        )
        return found

    async def person(self, code: str, redirect_uri: str, words: Words) -> Person:
        """Who came back with `code`.

        Raises Unauthenticated when the code or the token does not hold, Unavailable when the
        provider does not answer as it should.
        """
        about = await self._described()
        tokens = await self._exchanged(about, code, redirect_uri, words)
        claims = await self._claims(about, tokens, words)
        if "email" not in claims and "userinfo_endpoint" in about and tokens.get("access_token"):
            claims = {**await self._told(about, tokens, claims["sub"]), "sub": claims["sub"]}
        return Person(
            self.declared.issuer, claims["sub"], _email_in(claims), _name_in(claims), self.name
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _described(self) -> dict[str, Any]:
        """What the provider says of itself (OpenID Connect Discovery)."""
        async with self._turn:
            if monotonic() < self._about_until:
                return self._about
            url = f"{self.declared.issuer.rstrip('/')}/.well-known/openid-configuration"
            status, about = await self._call("GET", url)
            if status != httpx.codes.OK:
                raise self._down(f"it does not say where its endpoints are (status {status})")
            if about.get("issuer") != self.declared.issuer:
                raise self._down("it calls itself by another issuer than is declared")
            named = [about.get(name) for name in _ENDPOINTS]
            if "userinfo_endpoint" in about:
                named.append(about["userinfo_endpoint"])
            if not all(isinstance(it, str) and _is_safe(it) for it in named):
                raise self._down("an endpoint of it is missing, or is not reached by TLS")
            self._about, self._about_until = about, monotonic() + KNOWN_FOR_S
            return about

    async def _exchanged(
        self, about: Mapping[str, Any], code: str, redirect_uri: str, words: Words
    ) -> dict[str, Any]:
        """The tokens that `code` stands for."""
        secret = self.declared.client_secret
        known = about.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
        basic = "client_secret_basic" in known
        method = "none" if not secret else "client_secret_basic" if basic else "client_secret_post"
        body = prepare_token_request(
            "authorization_code",
            redirect_uri=redirect_uri,
            code=code,
            code_verifier=words.verifier,
        )
        in_clear = secret.get_secret_value() if secret else None
        auth = ClientAuth(self.declared.client_id, in_clear, method)
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        url, headers, body = auth.prepare("POST", about["token_endpoint"], form, body)
        status, found = await self._call("POST", url, headers=headers, content=body)
        if status == httpx.codes.OK:
            return found
        why = str(found.get("error", ""))[:100]
        if status == httpx.codes.BAD_REQUEST and why == "invalid_grant":
            raise self._refused("the code does not hold")
        raise self._down(f"it gives no token (status {status} {why})")

    async def _claims(
        self, about: Mapping[str, Any], tokens: Mapping[str, Any], words: Words
    ) -> dict[str, Any]:
        """What the ID token says, when everything about it is as it has to be."""
        named = about.get("id_token_signing_alg_values_supported") or ["RS256"]
        registry = JWSRegistry(
            algorithms=[it for it in ALGORITHMS if it in named] or ["RS256"],
            strict_check_header=False,
        )
        text = tokens.get("id_token")
        if not isinstance(text, str):
            raise self._refused("there is no ID token")
        try:
            keys = await self._keys_of(about)
            try:
                token = jwt.decode(text, keys, registry=registry)
            except (InvalidKeyIdError, BadSignatureError):
                newer = await self._keys_of(about, than=keys)
                if newer is keys:
                    raise
                token = jwt.decode(text, newer, registry=registry)
            claims = CodeIDToken(
                token.claims,
                token.header,
                {
                    "iss": {"essential": True, "value": self.declared.issuer},
                    "aud": {"essential": True, "value": self.declared.client_id},
                    "sub": {"essential": True},
                },
                {
                    "nonce": words.nonce,
                    "client_id": self.declared.client_id,
                    "access_token": tokens.get("access_token"),
                },
            )
            claims.validate(leeway=LEEWAY_S)
        except (JoseError, ValueError, TypeError) as error:
            raise self._refused(f"{type(error).__name__}: {error}") from error
        if len(claims["sub"]) > _SUBJECT_MAX or "\0" in claims["sub"]:
            raise self._refused("the subject is none")
        return dict(claims)

    async def _keys_of(self, about: Mapping[str, Any], *, than: KeySet | None = None) -> KeySet:
        """Its keys; newer ones `than` those, unless they were just asked for."""
        async with self._turn:
            age_s = monotonic() - self._keys_at
            if self._keys is not None:
                is_new = than is not None and self._keys is not than
                if is_new or age_s < (KNOWN_FOR_S if than is None else KEYS_AGAIN_S):
                    return self._keys
            status, found = await self._call("GET", about["jwks_uri"])
            try:
                # One that is for encryption, or shared, signs nothing.
                signing = [
                    it for it in found["keys"] if it.get("use") != "enc" and it.get("kty") != "oct"
                ]
                self._keys = KeySet.import_key_set({"keys": signing})
            except (JoseError, KeyError, TypeError, ValueError, AttributeError) as error:
                raise self._down(f"its keys cannot be read (status {status})") from error
            self._keys_at = monotonic()
            return self._keys

    async def _told(
        self, about: Mapping[str, Any], tokens: Mapping[str, Any], subject: str
    ) -> dict[str, Any]:
        """What its userinfo endpoint says of the same person."""
        headers = {"Authorization": f"Bearer {tokens['access_token']}"}
        status, found = await self._call("GET", about["userinfo_endpoint"], headers=headers)
        if status != httpx.codes.OK:
            raise self._down(f"it does not say who it was (status {status})")
        if found.get("sub") != subject:
            raise self._refused("its userinfo is of somebody else")
        return found

    async def _call(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: str | None = None,
    ) -> tuple[int, dict[str, Any]]:
        """The status and the JSON object of one answer; {} when it is none. Raises Unavailable."""
        if monotonic() < self._down_until:
            raise self._down("it did not a moment ago")
        body = bytearray()
        try:
            async with (
                asyncio.timeout(CALL_S),
                self._client.stream(method, url, headers=headers, content=content) as answer,
            ):
                async for piece in answer.aiter_bytes():
                    body += piece
                    if len(body) > ANSWER_MAX_BYTES:
                        raise self._down("it answers without end")
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            self._down_until = monotonic() + LEFT_ALONE_S
            raise self._down(type(error).__name__) from error
        try:
            found = orjson.loads(body)
        except ValueError:
            found = {}
        return answer.status_code, found if isinstance(found, dict) else {}

    def _down(self, why: str) -> Unavailable:
        return Unavailable(f"The provider {self.name} does not answer as it should: {why}.")

    def _refused(self, why: str) -> Unauthenticated:
        _log.warning("identity.token_refused", provider=self.name, why=why[:200])
        return Unauthenticated("The provider's word does not hold.", fix="Sign in again.")


def _is_safe(url: str) -> bool:
    """Whether nobody on the way can read or change what is sent there."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return False
    return bool(host) and (
        parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))
    )


def _email_in(claims: Mapping[str, Any]) -> str:
    """The address that the provider has verified; '' when it says of none that it has."""
    # The text "true" of some providers does not count: the standard has a boolean.
    if claims.get("email_verified") is not True or not isinstance(claims.get("email"), str):
        return ""
    try:
        return checked_email(claims["email"])
    except Refused:
        return ""


def _name_in(claims: Mapping[str, Any]) -> str:
    name = claims.get("name")
    shown = "".join(it for it in name if it.isprintable()) if isinstance(name, str) else ""
    return shown.strip()[:_NAME_MAX]
