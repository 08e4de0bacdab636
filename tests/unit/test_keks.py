"""Keys as people write them: what is one, what certainly is none, and the ledger of those gone."""

from __future__ import annotations

import base64
import secrets
from pathlib import Path

import pytest

from polyplane.errors import Misconfigured
from polyplane.security import ledger
from polyplane.security.keks import keys_in

RAW = bytes.fromhex("8f3a51c20b7e94d6f01823aa5cbe7719d4e60f92831b47c5ee02ad3f6948b1c7")
B64 = base64.b64encode(RAW).decode()


async def test_one_key_has_several_spellings() -> None:
    url = base64.urlsafe_b64encode(RAW).decode()
    sets = [keys_in(it) for it in (B64, B64.rstrip("="), url, url.rstrip("="), RAW.hex())]
    assert len({it.primary for it in sets}) == 1
    wrapped = await sets[0].wrap(b"x" * 32, b"")
    assert [await it.unwrap(wrapped, b"") for it in sets] == [b"x" * 32] * 5


def test_the_first_key_is_the_primary_one() -> None:
    text = secrets.token_urlsafe(24)
    found = keys_in(f" new:{B64}, old-1:{text} ,{secrets.token_hex(32)}")
    assert found.primary == "new"
    assert found.ids[0] == "new" and "old-1" in found.ids and len(found.ids) == 3


@pytest.mark.parametrize(
    "text",
    [
        "",
        " , ",
        "your-32-character-encryption-key-here",
        "changeme" * 6,
        "a" * 32,
        "ab" * 40,
        "0" * 64,
        "deadbeef" * 8,
        base64.b64encode(b"\0" * 32).decode(),
        base64.b64encode(bytes(range(32))).decode(),
        base64.b64encode(bytes(range(62, 126, 2))).decode(),
        "my-very-long-but-quite-secret-password!!",
        "short",
        "B1cUFkmrAGZ1UTw5Yt_Ang",
        f"a b:{B64}",
        f"a:{B64},a:{RAW[::-1].hex()}",
    ],
)
def test_placeholders_and_what_is_no_key_are_refused(text: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        keys_in(text)
    assert B64 not in str(caught.value)


def test_random_keys_are_taken() -> None:
    for _ in range(300):
        assert keys_in(base64.b64encode(secrets.token_bytes(32)).decode()).ids
        assert keys_in(secrets.token_hex(32)).ids
        assert keys_in(secrets.token_urlsafe(24)).ids


def test_the_ledger_keeps_what_was_noted_before_a_crash(tmp_path: Path) -> None:
    path = tmp_path / ledger.NAME
    assert ledger.noted(path) == []
    ledger.note(path, ["a", "b"])
    with path.open("a") as file:
        file.write("\nhal")  # cut off
    assert ledger.noted(path) == ["a", "b"]
    ledger.note(path, ["b", "c"])
    assert [it for it in ledger.noted(path) if it != "hal"] == ["a", "b", "c"]
    assert path.stat().st_mode & 0o777 == 0o600
