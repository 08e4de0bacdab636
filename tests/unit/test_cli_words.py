"""What the command line says at once: help, errors, envelopes, the settings' file."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from polyplane.serve.cli.program import COMMANDS
from polyplane.settings import Settings

HELP_CPU_S_MAX = 0.4


def run(folder: Path, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """One command in `folder`, without this process's settings."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("POLYPLANE_")}
    return subprocess.run(
        [sys.executable, "-m", "polyplane", *words],
        cwd=folder,
        env={**clean, **environ, "COLUMNS": "100"},
        capture_output=True,
        text=True,
        timeout=30,
    )


def test_help_is_quick_and_names_every_command(tmp_path: Path) -> None:
    spent = []
    for _ in range(3):  # processor time: the machine may be busy with something else
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = run(tmp_path, "--help")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert done.returncode == 0
    assert sorted(spent)[1] < HELP_CPU_S_MAX
    assert [name for name, (_, text) in COMMANDS.items() if f" {name} " not in done.stdout] == []


def test_no_command_is_help_and_a_misspelt_one_is_corrected(tmp_path: Path) -> None:
    assert "projections" in run(tmp_path).stdout
    done = run(tmp_path, "verfy")
    assert done.returncode == 2
    assert "verify" in done.stderr


def test_version(tmp_path: Path) -> None:
    assert run(tmp_path, "--version").stdout.strip() == version("polyplane")


def test_init_writes_once_and_can_be_repeated(tmp_path: Path) -> None:
    first = json.loads(run(tmp_path, "init", "--home", 'a "b" [c]', "--json").stdout)
    assert first["status"] == "ok"
    assert first["data"]["is_new"] is True
    text = (tmp_path / "polyplane.toml").read_text()
    again = run(tmp_path, "init")
    assert again.returncode == 0
    assert again.stdout.splitlines()[-1] == "Next: polyplane up"
    assert 'a "b" [c]' in again.stdout
    other = json.loads(run(tmp_path, "init", "--home", "other", "--json").stdout)
    assert (other["status"], other["data"]["error"]) == ("error", "conflict")
    assert (tmp_path / "polyplane.toml").read_text() == text
    assert not (tmp_path / "other").exists()
    assert (tmp_path / 'a "b" [c]').is_dir()


def test_every_line_init_comments_out_is_a_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path, "init")
    text = (tmp_path / "polyplane.toml").read_text()
    shown = [line.removeprefix("# ") for line in text.splitlines() if " = " in line]
    (tmp_path / "polyplane.toml").write_text("\n".join(shown))
    monkeypatch.chdir(tmp_path)
    assert len(Settings.load(environ={}).model_fields_set) == len(shown) > 5


@pytest.mark.parametrize("words", [("init",), ("status",), ("verify",), ("migrate", "up")])
def test_an_error_is_one_line_with_its_fix(tmp_path: Path, words: tuple[str, ...]) -> None:
    done = run(tmp_path, *words, POLYPLANE_HOMME="x")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "There is no setting 'homme'. Did you mean 'home'?\n"
    done = run(tmp_path, *words, "--json", POLYPLANE_HOMME="x")
    assert done.returncode == 2
    envelope = json.loads(done.stdout)
    assert set(envelope) == {"status", "command", "duration_ms", "data"}
    assert (envelope["status"], envelope["command"]) == ("error", " ".join(words))
    assert envelope["data"]["error"] == "misconfigured"
    assert envelope["data"]["fix"] == "Did you mean 'home'?"


def test_secrets_of_a_url_are_not_shown(tmp_path: Path) -> None:
    done = run(tmp_path, "migrate", "status", DATABASE_URL="postgresql://me:hunter2@127.0.0.1:1/x")
    assert done.returncode == 4
    assert "hunter2" not in done.stdout + done.stderr
