"""docs/settings.md says what `Settings` is, no more and no less."""

from __future__ import annotations

from pathlib import Path

import pytest

from polyplane.settings import PREFIX, USUAL_NAMES, Settings

PAGE = (Path(__file__).parents[2] / "docs" / "settings.md").read_text(encoding="utf-8")


def _rows(section: str) -> list[list[str]]:
    """The cells of the table in a section, without its head."""
    text = PAGE.split(f"## {section}\n")[1].split("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def _row_of(name: str) -> list[str]:
    field = Settings.model_fields[name]
    default = {"None": "none", "": '""'}.get(str(field.default), str(field.default))
    usual = ", ".join(f"`{variable}`" for variable, fills in USUAL_NAMES.items() if fills == name)
    return [f"`{name}`", f"`{PREFIX}{name.upper()}`", usual, default, field.description or ""]


def test_every_setting_is_documented_as_it_is() -> None:
    assert _rows("All of them") == [_row_of(name) for name in Settings.model_fields]


def test_every_variable_of_the_seeds_is_in_the_table() -> None:
    named = [variable.strip("`") for variable, _, _ in _rows("Names from elsewhere")]
    assert named == [
        "DATABASE_URL",
        "DB_MAX_CONNECTIONS",
        "DB_POOL_TIMEOUT",
        "LANCEDB_URI",
        "LANCEDB_TABLE_NAME",
        "LANCEDB_CHUNKS_TABLE_NAME",
        "ATOM_OAUTH_ENCRYPTION_KEY",
    ]


@pytest.mark.parametrize("variable, example, fate", _rows("Names from elsewhere"))
def test_a_variable_does_what_the_table_says(
    variable: str,
    example: str,
    fate: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings.load(environ={variable.strip("`"): example.strip("`")})
    if fate.startswith("left alone"):
        assert settings == Settings()
    else:
        assert settings.model_fields_set == {fate.split("`")[1]}


def test_the_file_of_the_example_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    example = PAGE.split("```toml\n")[1].split("```")[0]
    (tmp_path / "polyplane.toml").write_text(example, encoding="utf-8")
    assert Settings.load(environ={}).url("database_url") == "postgresql://user@host:5432/name"
