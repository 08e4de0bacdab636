"""Settings: who wins, what the usual names fill, and what a misspelt key is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from polyplane.errors import Misconfigured
from polyplane.settings import PREFIX, USUAL_NAMES, USUAL_TABLES, Settings

# What seed 002 writes into its environment; the last three are the assistant application's.
ATOM = {
    "DATABASE_URL": "postgresql://user:password@localhost:5432/atom_db",
    "DB_MAX_CONNECTIONS": "20",
    "DB_POOL_TIMEOUT": "30",
    "LANCEDB_URI": "data/lancedb",
    "LANCEDB_TABLE_NAME": "processed_documents",
    "LANCEDB_CHUNKS_TABLE_NAME": "document_chunks",
    "ATOM_OAUTH_ENCRYPTION_KEY": "your-32-character-encryption-key-here",
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, so that nobody's polyplane.toml is read."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_nothing_given_means_embedded() -> None:
    settings = Settings.load(environ={})
    urls = [name for name in Settings.model_fields if name.endswith("_url")]
    assert [name for name in urls if settings.url(name)] == []
    assert settings.api_host == "127.0.0.1"


def test_precedence_is_argument_prefix_usual_name_file(folder: Path) -> None:
    (folder / "polyplane.toml").write_text('database_url = "postgresql://file/x"\n')
    assert Settings.load(environ={}).url("database_url") == "postgresql://file/x"
    environ = {"DATABASE_URL": "postgresql://usual/x"}
    assert Settings.load(environ=environ).url("database_url") == "postgresql://usual/x"
    environ |= {"POLYPLANE_DATABASE_URL": "postgresql://prefix/x"}
    assert Settings.load(environ=environ).url("database_url") == "postgresql://prefix/x"
    given = Settings.load(environ=environ, database_url="postgresql://given/x")
    assert given.url("database_url") == "postgresql://given/x"


def test_every_variable_of_the_assistant_is_honoured() -> None:
    settings = Settings.load(environ=ATOM)
    assert settings.url("database_url") == ATOM["DATABASE_URL"]
    assert settings.db_max_connections == 20
    assert settings.db_pool_timeout_s == 30
    assert settings.url("vector_url") == "lancedb://data/lancedb"
    assert settings.url("encryption_keys") == ATOM["ATOM_OAUTH_ENCRYPTION_KEY"]
    later = {name for name in ATOM if name not in USUAL_NAMES}
    assert later == USUAL_TABLES.keys()
    assert settings.vector_tables == {it: ATOM[name] for name, it in USUAL_TABLES.items()}


@pytest.mark.parametrize("variable", USUAL_NAMES)
def test_each_usual_name_fills_its_setting(variable: str) -> None:
    is_number = variable.startswith("DB_")
    settings = Settings.load(environ={variable: "7" if is_number else "scheme://host/x"})
    name = USUAL_NAMES[variable]
    assert name in settings.model_fields_set
    found = getattr(settings, name)
    in_clear = found.get_secret_value() if isinstance(found, SecretStr) else found
    assert in_clear == (7 if is_number else "scheme://host/x")


PATTERNED = {
    "audit_public_keys": "ab" * 32,
    "api_origins": "https://lab.example",
    "api_proxies": "10.0.0.1",
}


@pytest.mark.parametrize("name", Settings.model_fields)
def test_each_setting_has_its_prefixed_variable(name: str) -> None:
    field = Settings.model_fields[name]
    value = "scheme://host/x" if field.default is None else str(field.default)
    value = value or PATTERNED.get(name, "xyz")
    settings = Settings.load(environ={PREFIX + name.upper(): value})
    assert name in settings.model_fields_set


def test_an_absolute_path_and_a_url_are_both_a_lancedb_uri() -> None:
    assert Settings.load(environ={"LANCEDB_URI": "/d/l"}).url("vector_url") == "lancedb:///d/l"
    assert Settings.load(environ={"LANCEDB_URI": "lancedb://x"}).url("vector_url") == "lancedb://x"


@pytest.mark.parametrize("source", ["argument", "environment", "file"])
def test_an_unknown_key_is_an_error_with_a_suggestion(folder: Path, source: str) -> None:
    environ = {"POLYPLANE_DATABSE_URL": "x"} if source == "environment" else {}
    if source == "file":
        (folder / "polyplane.toml").write_text('databse_url = "x"\n')
    given = {"databse_url": "x"} if source == "argument" else {}
    with pytest.raises(Misconfigured, match=r"'databse_url'.*Did you mean 'database_url'"):
        Settings.load(environ=environ, **given)


def test_a_wrong_value_is_named_without_being_shown() -> None:
    with pytest.raises(Misconfigured, match="'db_max_connections'") as caught:
        Settings.load(environ={"DB_MAX_CONNECTIONS": "hunter2"})
    assert "hunter2" not in str(caught.value)


def test_a_broken_file_is_named(folder: Path) -> None:
    (folder / "polyplane.toml").write_text("home = \n")
    with pytest.raises(Misconfigured, match=r"polyplane\.toml"):
        Settings.load(environ={})


def test_secrets_do_not_show() -> None:
    settings = Settings.load(environ=ATOM)
    assert "password@" not in repr(settings)
    assert "password@" not in settings.model_dump_json()


def test_an_empty_variable_is_no_value() -> None:
    assert Settings.load(environ={"DATABASE_URL": "", "POLYPLANE_HOME": ""}) == Settings()


@pytest.mark.parametrize("rate", ["100000000/60", "1/999999", "600", "0/60"])
def test_a_rate_that_cannot_be_kept_is_refused_before_anybody_asks(rate: str) -> None:
    with pytest.raises(Misconfigured, match="limit_caller"):
        Settings.load(environ={}, limit_caller=rate)


def test_tables_of_usual_names_are_added_to_those_of_the_file(folder: Path) -> None:
    (folder / "polyplane.toml").write_text('[vector_tables]\ndocument_chunks = "a"\nother = "b"\n')
    environ = {"LANCEDB_CHUNKS_TABLE_NAME": "chunks", "LANCEDB_TABLE_NAME": "documents"}
    assert Settings.load(environ=environ).vector_tables == {
        "document_chunks": "chunks",
        "other": "b",
        "processed_documents": "documents",
    }
    with pytest.raises(Misconfigured, match="vector_tables"):
        Settings.load(environ={"LANCEDB_TABLE_NAME": "No; DROP"})
