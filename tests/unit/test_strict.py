"""What strict refuses: a URL that leads away without verified TLS, a disk in clear. Pure."""

from __future__ import annotations

from typing import Any

import pytest

import polyplane as pp
from polyplane.errors import Misconfigured
from polyplane.runtime.opening import check_strict
from polyplane.security.transport import exposed, why_exposed
from polyplane.security.volume import Device, disk_is_encrypted, is_encrypted, mount_of

FIT = [
    "postgresql://u:p@127.0.0.1:5432/n",
    "postgresql://u@localhost/n",
    "postgresql://u@[::1]:5432/n",
    "postgresql:///n?host=/run/postgresql",
    "postgresql://u:p@db.example/n?sslmode=verify-full",
    "postgresql://u:p@db1.example,db2.example/n?sslmode=verify-full&sslrootcert=system",
    "nats://127.0.0.1:4222",
    "tls://u:p@nats.example:4222",
    "tls://one.example:4222,two.example:4222",
    "redis://:p@127.1.2.3:6379/0",
    "rediss://:p@cache.example:6379/0",
    "rediss://:p@cache.example:6379/0?ssl_cert_reqs=required",
    "unix:///run/valkey.sock",
    "lancedb:///var/vectors",
    "chdb:///var/series",
    "wordllama://",
    "qdrant://local/var/vectors",
    "http://127.0.0.1:6333",
    "https://s3.example",
    "clickhouses://u:p@ch.example:8443/db",
]
EXPOSED = [
    "postgresql://u:p@db.example/n",
    "postgresql://u:p@db.example/n?sslmode=require",
    "postgresql://u:p@db.example/n?sslmode=verify-ca",
    "postgresql://u:p@127.0.0.1,db.example/n",
    "postgresql://u:p@127.0.0.1/n?host=db.example",
    "postgresql://u:p@127.0.0.1/n?hostaddr=10.0.0.1",
    "postgresql://u:p@10.0.0.1/n?sslmode=disable",
    "nats://nats.example:4222",
    "nats://127.0.0.1:4222,nats.example:4222",
    "tls://one.example:4222,nats://two.example:4222",
    "redis://cache.example:6379/0",
    "valkey://cache.example",
    "rediss://cache.example/0?ssl_cert_reqs=none",
    "http://127.0.0.1.example:6333",
    "http://[fe80::1]:6333",
    "http://s3.example",
    "clickhouse://ch.example/db",
    "clickhouses://ch.example/db?verify=false",
    "qdrant://vectors.example:6334",
]


@pytest.mark.parametrize("url", FIT)
def test_what_stays_or_is_verified_is_fit(url: str) -> None:
    assert why_exposed(url) == ""


@pytest.mark.parametrize("url", EXPOSED)
def test_what_leads_away_in_clear_is_told(url: str) -> None:
    assert why_exposed(url)
    assert list(exposed({"it": url, "other": FIT[0]})) == ["it"]


def test_strict_refuses_every_setting_that_is_a_url() -> None:
    """Each by its name; and says nothing of its secrets."""
    names = [name for name in pp.Settings.model_fields if name.endswith("_url")]
    assert len(names) > 8
    for name in names:
        given: dict[str, Any] = {name: "http://user:topsecret@away.example/x"}
        if name.startswith(("database", "cache", "nats")):
            given = {name: "redis://user:topsecret@away.example/0"}
        with pytest.raises(Misconfigured) as refused:
            check_strict(pp.Settings(strict=True, **given))
        assert name in str(refused.value) and "topsecret" not in str(refused.value)
        check_strict(pp.Settings(strict=False, **given))
    check_strict(pp.Settings(strict=True))


MOUNTINFO = r"""
22 1 259:2 / / rw,relatime shared:1 - ext4 /dev/nvme0n1p2 rw
30 22 253:3 / /srv/my\040vectors rw - xfs /dev/mapper/vectors rw
31 22 0:40 / /home rw shared:3 - ecryptfs /home/.x rw
32 22 253:9 / /srv rw - ext4 /dev/mapper/plain rw
"""
DEVICES = {
    "259:2": Device("", ["259:0"]),
    "259:0": Device("", []),
    "253:3": Device("LVM-abc", ["253:1", "253:2"]),
    "253:1": Device("CRYPT-LUKS2-1", ["259:3"]),
    "253:2": Device("CRYPT-LUKS2-2", ["259:4"]),
    "253:9": Device("LVM-def", ["253:1", "259:0"]),
}


@pytest.mark.parametrize(
    "folder, device, encrypted",
    [
        ("/srv/my vectors/lancedb", "253:3", True),  # a logical volume on encrypted disks
        ("/srv/my vectorsX", "253:9", False),  # one of its disks is in clear
        ("/srv/other", "253:9", False),
        ("/home/ada", "0:40", True),
        ("/var/lib", "259:2", False),
    ],
)
def test_a_disk_is_as_encrypted_as_all_below_it(folder: str, device: str, encrypted: bool) -> None:
    found, kind = mount_of(folder, MOUNTINFO)
    assert found == device
    assert is_encrypted(found, kind, DEVICES.get) is encrypted


def test_what_is_not_known_is_not_encrypted(monkeypatch: pytest.MonkeyPatch) -> None:
    assert mount_of("/x", "") == ("", "")
    assert not is_encrypted("7:7", "ext4", DEVICES.get)
    settings = pp.Settings(vectors_require_encrypted_disk=True)
    name = "polyplane.runtime.opening.disk_is_encrypted"
    monkeypatch.setattr(name, lambda _: False)
    with pytest.raises(Misconfigured, match="not encrypted"):
        check_strict(settings)
    monkeypatch.setattr(name, lambda _: True)
    check_strict(settings)
    assert disk_is_encrypted(settings.home) in (True, False)
