"""Ports and files of the embedded engines, without any engine."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from polyplane.embedded.account import Account, let_pass
from polyplane.embedded.files import read_json, write_file
from polyplane.embedded.ports import RANGE, choose, is_free
from polyplane.embedded.process import LOG_BYTES_MAX, trim
from polyplane.embedded.supervisor import Engines
from polyplane.errors import Misconfigured


def test_remembered_ports_are_kept() -> None:
    first = choose(["a", "b"], {}, taken=[])
    assert len(set(first.values())) == 2
    assert all(port in RANGE for port in first.values())
    assert choose(["a", "b"], first, taken=[]) == first


@pytest.mark.parametrize("interface", ["127.0.0.1", "0.0.0.0"])
def test_a_port_with_a_listener_is_replaced(interface: str) -> None:
    with socket.socket() as listener:
        listener.bind((interface, 0))
        listener.listen()
        port = listener.getsockname()[1]
        assert not is_free(port)
        assert choose(["a"], {"a": port}, taken=[])["a"] != port


def test_new_ports_avoid_those_of_others() -> None:
    chosen = choose([str(n) for n in range(20)], {}, taken=RANGE[::2])
    assert all(port in RANGE[1::2] for port in chosen.values())


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    target.write_text("untouched")
    path = tmp_path / "file"
    path.symlink_to(target)
    write_file(path, '{"a": 1}')
    assert target.read_text() == "untouched"
    assert (path.stat().st_mode & 0o777, read_json(path)) == (0o600, {"a": 1})
    assert sorted(tmp_path.iterdir()) == [target, path]


@pytest.mark.parametrize("text", ["", "{", "[]", "7"])
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "engines.json"
    path.write_text(text)
    with pytest.raises(Misconfigured, match=r"engines\.json"):
        read_json(path)
    assert read_json(tmp_path / "absent") == {}


def test_a_long_log_keeps_its_end(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("ab") as writer:
        writer.write(b"x" * LOG_BYTES_MAX + b"\nthe end\n")
        writer.flush()
        trim(log)
        writer.write(b"and on\n")
    assert log.stat().st_size < 4_000
    assert log.read_text().endswith("the end\nand on\n")


def test_passage_is_granted_only_through_folders_of_ours(tmp_path: Path) -> None:
    inner = tmp_path / "closed" / "inner"
    inner.mkdir(parents=True)
    inner.parent.chmod(0o700)
    told: list[str] = []
    let_pass(inner / "home", Account("somebody", 12_345, 12_345), told.append)
    assert inner.parent.stat().st_mode & 0o777 == 0o701
    assert any(str(inner.parent) in line for line in told)


def test_an_unknown_engine_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="postgress"):
        Engines(tmp_path, wanted=["postgress"])
