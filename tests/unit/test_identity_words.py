"""Passwords, addresses, tokens, back-off and roles: the pure part of identity."""

from __future__ import annotations

from itertools import pairwise

import pytest
from argon2 import PasswordHasher
from hypothesis import given, strategies as st

from polyplane.access import hashing
from polyplane.access.door import _chosen
from polyplane.access.standing import SESSION, Standing, _opened, _sealed
from polyplane.errors import Forbidden, Misconfigured, Refused
from polyplane.security.backoff import OF_ACCOUNT, OF_PLACE, Backoff, place_of
from polyplane.security.emails import checked_email, email_key
from polyplane.security.passwords import check_password, spelled
from polyplane.security.roles import OPERATE, OWN, PROGRAM_ROLES, ROLES, Permissions
from polyplane.security.tokens import (
    device_of,
    hash_of,
    is_session_token,
    key_id_of,
    new_device,
    new_key,
    new_session_token,
)

SECRET = b"s" * 32
EMAIL = "ada.lovelace@example.org"


@pytest.mark.parametrize(
    "one, other",
    [
        ("Ada@Example.ORG", " ada@example.org "),
        ("ａｄａ@example.org", "ada@example.org"),
        ("a\u0308da@example.org", "äda@example.org"),
        ("ada@bücher.example", "ADA@xn--bcher-kva.example"),
        ("STRASSE@example.org", "straße@example.org"),
    ],
)
def test_two_spellings_are_one_address(one: str, other: str) -> None:
    assert email_key(one) == email_key(other)


@given(st.text(max_size=60))
def test_an_address_has_one_key(text: str) -> None:
    assert email_key(email_key(text)) == email_key(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "@",
        "ada",
        "ada@",
        "@x.org",
        "a b@x.org",
        "a@b@x.org",
        "a@x..org",
        "a\u200b@x.org",
        "a\x00@x.org",
        "a@x.org\nb@y.org",
        "a" * 250 + "@x.org",
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(Refused):
        checked_email(text)


@pytest.mark.parametrize(
    "password",
    [
        "1234567",
        "x" * 257,
        "aaaaaaaaaaaa",
        "abababababab",
        EMAIL,
        EMAIL.upper(),
        "ada.lovelace",
        "ecalevol.ada",
        "my ada.lovelace 1",
        "example.org",
        "１２３４５６７",
    ],
)
def test_a_password_that_is_guessed_first_is_refused(password: str) -> None:
    with pytest.raises(Refused):
        check_password(password, EMAIL)


@pytest.mark.parametrize(
    "password", ["12345678", "x" * 250 + "abc", "    spaces are fine   ", "пароль-да"]
)
def test_a_password_needs_no_special_letters(password: str) -> None:
    check_password(password, EMAIL)
    check_password(f"ada {password}"[:256], "ada@example.org")


def test_a_password_is_the_same_from_every_keyboard() -> None:
    assert spelled("a\u0308pfel") == spelled("äpfel")


def test_tokens_have_their_forms_and_256_random_bits() -> None:
    token, key = new_session_token(), new_key()
    assert is_session_token(token) and not is_session_token(key.text)
    assert key_id_of(key.text) == key.id and key_id_of(token) is None
    assert key.text.startswith(f"pp_{key.id}_")
    assert len({new_session_token() for _ in range(100)}) == 100
    assert len(token) == 3 + 43 and len(hash_of(token)) == 32
    for odd in (f"{token}x", token[:-1], f" {token}", f"{token}\n", key.text.upper()):
        assert not is_session_token(odd) and key_id_of(odd) is None


def test_a_device_is_known_for_its_account_only() -> None:
    shown = new_device(SECRET, b"ada")
    nonce = device_of(SECRET, b"ada", shown)
    assert nonce and shown.startswith(nonce)
    for secret, account, given_ in (
        (SECRET, b"bob", shown),
        (b"t" * 32, b"ada", shown),
        (SECRET, b"ada", f"x{shown}"),
        (SECRET, b"ada", ""),
        (SECRET, b"ada", f".{shown.partition('.')[2]}"),
    ):
        assert device_of(secret, account, given_) is None


@pytest.mark.parametrize("backoff", [OF_ACCOUNT, OF_PLACE, Backoff(0, 1, 10, 60)])
def test_waits_begin_late_double_and_end_growing(backoff: Backoff) -> None:
    waits = backoff.waits()
    assert waits[: backoff.free] == [0] * backoff.free
    assert waits[backoff.free] == backoff.first_s and waits[-1] == backoff.max_s
    grown = waits[backoff.free : -1]
    assert all(after == 2 * before for before, after in pairwise(grown))


@pytest.mark.parametrize(
    "one, other, same",
    [
        ("10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.2", False),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("fe80::1%eth0", "fe80::2", True),
        ("unix", "unix", True),
    ],
)
def test_a_place_is_what_one_subscriber_has(one: str, other: str, same: bool) -> None:
    assert (place_of(one) == place_of(other)) is same


def test_each_role_has_what_lesser_ones_have() -> None:
    table = Permissions.of([("lab", {"lab.read": "viewer", "lab.write": "editor"})])
    for less, more in (
        ("viewer", "editor"),
        ("viewer", "auditor"),
        ("editor", "operator"),
        ("operator", "admin"),
        ("auditor", "admin"),
        ("admin", "owner"),
    ):
        assert table.of_role[less] <= table.of_role[more]
    assert "lab.write" not in table.of_role["auditor"]
    assert table.of_role["owner"] == {*OWN, "lab.read", "lab.write"}
    assert table.everything == table.of_role["owner"] | {OPERATE}
    assert set(table.of_role) == {*ROLES, *PROGRAM_ROLES}
    assert table.of_role["service_writer"] == {"graph.read", "lab.read", "lab.write"}
    table.check_grant("editor", table.of_role["admin"])
    with pytest.raises(Refused):
        table.check_grant("owner", table.of_role["admin"])


@pytest.mark.parametrize(
    "permissions",
    [{"read": "viewer"}, {"other.read": "viewer"}, {"lab.read": "king"}, {"lab.Read": "viewer"}],
)
def test_a_permission_is_its_applications_and_a_roles(permissions: dict[str, str]) -> None:
    with pytest.raises(Misconfigured):
        Permissions.of([("lab", permissions)])


def test_the_password_of_nobody_takes_as_long_as_any() -> None:
    ours = PasswordHasher(
        time_cost=hashing.PASSES, memory_cost=hashing.MEMORY_KIB, parallelism=hashing.LANES
    )
    assert not ours.check_needs_rehash(hashing.NOBODY)


STANDING = Standing(SESSION, "id", None, False, (("a", "viewer"), ("b", "owner")), None)


@pytest.mark.parametrize(
    "age_us, counts", [(0, True), (499_999, True), (500_000, False), (-1, False)]
)
def test_a_word_counts_for_half_a_second(age_us: int, counts: bool) -> None:
    word = _sealed(SECRET, "session:x", STANDING, 1_000_000)
    assert _opened(SECRET, "session:x", word, 1_000_000 + age_us) == (STANDING if counts else None)


@given(st.integers(0, 200), st.integers(1, 255))
def test_a_word_that_was_touched_does_not_count(at: int, flip: int) -> None:
    word = bytearray(_sealed(SECRET, "session:x", STANDING, 0))
    word[at % len(word)] ^= flip
    assert _opened(SECRET, "session:x", bytes(word), 0) is None
    assert _opened(SECRET, "session:y", _sealed(SECRET, "session:x", STANDING, 0), 0) is None
    assert _opened(b"t" * 32, "session:x", _sealed(SECRET, "session:x", STANDING, 0), 0) is None


def test_the_first_tenant_counts_unless_another_is_named() -> None:
    assert _chosen(STANDING, None) == ("a", "viewer")
    assert _chosen(STANDING, "b") == ("b", "owner")
    with pytest.raises(Forbidden):
        _chosen(STANDING, "c")
    nobody = STANDING._replace(roles=())
    assert _chosen(nobody, None) == ("", None)
    assert _chosen(nobody._replace(is_administrator=True), "c") == ("c", None)
