"""Providers that people come in by, or that they let the application come to their accounts at."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Final, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

URL_MAX: Final = 500


class OidcProvider(BaseModel):
    """A provider of OpenID Connect that people may sign in by, and what becomes of them here."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    issuer: str = Field(min_length=1, max_length=500, description="As its tokens name it.")
    client_id: str = Field(min_length=1, max_length=500)
    client_secret: SecretStr | None = Field(default=None, description="None for a public client.")
    email_domains: tuple[str, ...] = Field(
        default=(), description="Only who has a verified address in one of these; empty: anybody."
    )
    makes_accounts: bool = Field(
        default=False, description="Whether who is not known gets an account."
    )
    tenant: str = Field(
        default="", max_length=64, description="The organization a new account is a member of."
    )
    role: Literal["viewer", "auditor", "editor", "operator"] = Field(
        default="viewer", description="What a new account is in it."
    )


class OAuthProvider(BaseModel):
    """A provider of OAuth 2 at which people have accounts that the application may come to."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    authorization_url: str = Field(max_length=URL_MAX, description="Where people consent.")
    token_url: str = Field(max_length=URL_MAX, description="Where tokens are given and refreshed.")
    redirect_url: str = Field(
        max_length=URL_MAX, description="Where people come back to, as it knows it."
    )
    client_id: str = Field(min_length=1, max_length=500)
    client_secret: SecretStr | None = Field(default=None, description="None for a public client.")
    scopes: tuple[str, ...] = Field(default=(), max_length=100)
    rotates: bool = Field(
        default=True,
        description="Whether a refresh token holds once only; then it is never sent twice.",
    )

    @field_validator("authorization_url", "token_url", "redirect_url")
    @classmethod
    def _by_tls(cls, url: str) -> str:
        parts = urlsplit(url)
        plain = parts.scheme == "http" and _is_here(parts.hostname or "")
        if not (parts.scheme == "https" or plain) or not parts.hostname or parts.fragment:
            raise ValueError("must be an https:// URL; http:// only on this machine")
        return url


def _is_here(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
