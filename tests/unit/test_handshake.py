"""What a browser keeps while it is at a provider: signed, bound, and good for ten minutes."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest

from polyplane.access.provider import Provider
from polyplane.errors import Misconfigured
from polyplane.providers import OidcProvider
from polyplane.security.handshake import GOOD_FOR_S, begun, opened, sealed, words_of
from polyplane.settings import Settings

SECRET, OTHER = b"s" * 32, b"o" * 32
NOW = 1_800_000_000.0


def test_it_comes_back_as_it_left() -> None:
    for user in (None, UUID(int=7)):
        left = begun("it", "https://x/callback", "/docs", NOW, user=user, session=user)
        assert opened(SECRET, sealed(SECRET, left), NOW) == left


def test_it_is_over_after_ten_minutes() -> None:
    shown = sealed(SECRET, begun("it", "https://x/callback", "/", NOW))
    assert opened(SECRET, shown, NOW + GOOD_FOR_S - 1) is not None
    assert opened(SECRET, shown, NOW + GOOD_FOR_S) is None


def test_nobody_else_can_make_or_change_one() -> None:
    shown = sealed(SECRET, begun("it", "https://x/callback", "/", NOW))
    body, _, signature = shown.partition(".")
    other = sealed(OTHER, begun("it", "https://x/callback", "/", NOW))
    forged = [shown[:at] + ("A" if shown[at] != "A" else "B") + shown[at + 1 :] for at in (0, 9)]
    for wrong in (*forged, other, body, f"{body}.", f".{signature}", "", ".", "é.é", "a" * 9000):
        assert opened(SECRET, wrong, NOW) is None


def test_what_the_provider_is_told_is_of_one_sign_in_and_not_in_the_cookie() -> None:
    one, two = (begun("it", "https://x/callback", "/", NOW) for _ in range(2))
    words = [words_of(secret, it) for secret in (SECRET, OTHER) for it in (one, two)]
    words.append(words_of(SECRET, replace(one, user=UUID(int=1))))
    every = [text for it in words for text in (it.state, it.nonce, it.verifier)]
    assert len(set(every)) == len(every)
    assert {len(text) for text in every} == {43}  # as long as a verifier has to be, at least
    assert not any(text in sealed(SECRET, one) for text in every)
    assert words_of(SECRET, one) == words[0]


GIVEN = '{"it": {"issuer": "https://login.example", "client_id": "x", "client_secret": "hidden"}}'


def test_providers_are_declared_and_their_secrets_do_not_show() -> None:
    settings = Settings.load(environ={"POLYPLANE_OIDC": GIVEN})
    declared = settings.oidc["it"]
    assert declared.issuer == "https://login.example" and not declared.makes_accounts
    assert "hidden" not in repr(settings) + settings.model_dump_json()


@pytest.mark.parametrize(
    "wrong",
    [
        "{",
        '{"It": {"issuer": "https://x", "client_id": "x"}}',
        '{"a/b": {"issuer": "https://x", "client_id": "x"}}',
        '{"it": {"issuer": "https://x"}}',
        '{"it": {"issuer": "https://x", "client_id": "x", "role": "owner"}}',
        '{"it": {"issuer": "https://x", "client_id": "x", "role": "admin"}}',
        '{"it": {"issuer": "https://x", "client_id": "x", "make_accounts": true}}',
    ],
)
def test_a_provider_that_is_declared_wrongly_is_refused(wrong: str) -> None:
    with pytest.raises(Misconfigured, match="oidc"):
        Settings.load(environ={"POLYPLANE_OIDC": wrong})


@pytest.mark.parametrize("issuer", ["http://login.example", "login.example", "file:///x", "https:"])
def test_an_issuer_is_reached_by_tls(issuer: str) -> None:
    with pytest.raises(Misconfigured, match="https"):
        Provider("it", OidcProvider(issuer=issuer, client_id="x"))
