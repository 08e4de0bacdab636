"""Settings: URLs in, validated once.

Precedence: arguments, `POLYPLANE_*` variables, the usual names (`DATABASE_URL`, `REDIS_URL` ...),
`polyplane.toml`. An engine without a URL runs embedded under `home`.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from decimal import Decimal
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    ValidationError,
)

from polyplane.errors import Misconfigured

PREFIX: Final = "POLYPLANE_"

RATE: Final = r"^$|^[1-9][0-9]{0,8}/[1-9][0-9]{0,5}(/[1-9][0-9]{0,8})?$"
"""A rate: requests/seconds, or requests/seconds/at once; '' is none."""


def _possible(rate: str) -> str:
    """`rate`, if it can be kept."""
    if rate:
        limit, period_s, *_ = map(int, rate.split("/"))
        if not 1e-6 <= period_s / limit <= 86_400:
            raise ValueError("A rate is from one request in a day to a million in a second.")
    return rate


RateText = Annotated[str, Field(pattern=RATE), AfterValidator(_possible)]

USUAL_NAMES: Final[dict[str, str]] = {
    "DATABASE_URL": "database_url",
    "DB_MAX_CONNECTIONS": "db_max_connections",
    "DB_POOL_TIMEOUT": "db_pool_timeout_s",
    "NATS_URL": "nats_url",
    "REDIS_URL": "cache_url",
    "LANCEDB_URI": "vector_url",
    "QDRANT_URL": "vector_url",
    "NEO4J_URI": "graph_url",
    "NEO4J_USERNAME": "graph_username",
    "NEO4J_PASSWORD": "graph_password",
    "CLICKHOUSE_URL": "series_url",
    "S3_ENDPOINT_URL": "objects_url",
    "AWS_ENDPOINT_URL_S3": "objects_url",
    "AWS_DEFAULT_REGION": "objects_region",
    "AWS_REGION": "objects_region",
    "AWS_ACCESS_KEY_ID": "objects_access_key",
    "AWS_SECRET_ACCESS_KEY": "objects_secret_key",
    "OPENAI_BASE_URL": "embedder_url",
    "OPENAI_API_KEY": "embedder_api_key",
    "QDRANT_API_KEY": "vector_api_key",
    "ATOM_OAUTH_ENCRYPTION_KEY": "encryption_keys",
}
"""Variables people already have, and the setting each one fills."""


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


def _in_json(given: Any) -> Any:
    """A variable of the environment holds JSON."""
    return json.loads(given) if isinstance(given, str) else given


ProviderName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,30}$")]


class Settings(BaseModel):
    """Where the engines are and how much of them may be used. Durations are in seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    home: Path = Field(default=Path("var/polyplane"), description="Folder of the embedded engines.")
    namespace: str = Field(
        default="pp",
        pattern=r"^[a-z][a-z0-9_]{0,30}$",
        description="Prefix of NATS streams and subjects and of cache keys.",
    )
    database_url: SecretStr | None = Field(default=None, description="PostgreSQL, the truth.")
    database_app_url: SecretStr | None = Field(
        default=None,
        description="The same for a login of fewer rights, which the application acts as.",
    )
    database_projector_url: SecretStr | None = Field(
        default=None, description="The same for what derives and proves."
    )
    database_relay_url: SecretStr | None = Field(
        default=None, description="The same for what publishes."
    )
    database_backup_url: SecretStr | None = Field(
        default=None, description="The same for what copies."
    )
    database_audit_url: SecretStr | None = Field(
        default=None, description="The same for what seals the audit."
    )
    db_max_connections: int = Field(
        default=20,
        ge=4,
        le=1000,
        description="Connections of this process, as the app and as the projector.",
    )
    db_pool_timeout_s: float = Field(default=30, gt=0, description="Wait for a free connection.")
    db_call_timeout_s: float = Field(
        default=5, gt=0, description="Deadline of one call to PostgreSQL."
    )
    nats_url: SecretStr | None = Field(default=None, description="NATS with JetStream, the feed.")
    cache_url: SecretStr | None = Field(default=None, description="Redis or Valkey.")
    pubsub: str = Field(
        default="nats",
        pattern="^(nats|valkey)$",
        description="What carries messages of pub/sub: nats or valkey.",
    )
    encryption_keys: SecretStr | None = Field(
        default=None,
        description="Keys that wrap data keys, `id:key` by commas, the primary one first.",
    )
    encryption_keys_file: Path | None = Field(
        default=None, description="Their file without that; `keys.json` in the home if none."
    )
    vector_url: SecretStr | None = Field(
        default=None, description="lancedb:// or qdrant:// or http(s)://."
    )
    vector_api_key: SecretStr | None = Field(default=None, description="Key of a Qdrant server.")
    graph_url: SecretStr | None = Field(
        default=None, description="ladybug:// or bolt(+s):// or neo4j(+s)://."
    )
    graph_username: str = Field(
        default="", description="User of a Neo4j server, if not in the URL."
    )
    graph_password: SecretStr | None = Field(default=None, description="Its password.")
    series_url: SecretStr | None = Field(default=None, description="chdb:// or clickhouse(s)://.")
    objects_url: SecretStr | None = Field(
        default=None, description="S3 endpoint, with or without key:secret@."
    )
    objects_owner_url: SecretStr | None = Field(
        default=None,
        description="The same for who makes the bucket and its rules; objects_url if none.",
    )
    objects_bucket: str = Field(
        default="",
        pattern=r"^$|^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$",
        description="Bucket of blobs; polyplane-<namespace>-blobs if empty.",
    )
    objects_region: str = Field(default="us-east-1", description="Region of that endpoint.")
    objects_access_key: SecretStr | None = Field(
        default=None, description="Access key, if not in the URL."
    )
    objects_secret_key: SecretStr | None = Field(default=None, description="Its secret.")
    objects_path_style: bool = Field(
        default=True, description="Bucket in the path of URLs, not in their host."
    )
    embedder_url: SecretStr | None = Field(
        default=None,
        description="OpenAI-compatible endpoint; without it the offline embedder is used.",
    )
    embedder_api_key: SecretStr | None = Field(default=None, description="Key of that endpoint.")
    embedder_model: str = Field(
        default="text-embedding-3-small", description="Model at that endpoint."
    )
    embedder_dimensions: int = Field(
        default=1536, ge=2, le=8192, description="Its vectors' length."
    )
    embedder_timeout_s: float = Field(
        default=30, gt=0, le=600, description="Deadline of one request to it."
    )
    embedder_batch_texts: int = Field(
        default=128, ge=1, le=2048, description="Most texts of one request."
    )
    embedder_batch_tokens: int = Field(
        default=60_000, ge=256, le=1_000_000, description="About as many tokens in one, at most."
    )
    embedder_requests_per_minute: int = Field(
        default=0, ge=0, le=1_000_000, description="This process sends no more; 0 is no bound."
    )
    embedder_tokens_per_minute: int = Field(
        default=0, ge=0, le=1_000_000_000, description="The same of tokens."
    )
    embedder_price: Decimal = Field(
        default=Decimal(0), ge=0, le=1_000_000, description="What a million tokens cost."
    )
    embedder_cache_days: int = Field(
        default=30,
        ge=0,
        le=3650,
        description="How long a vector that cost something is kept unused; 0: not at all.",
    )
    embedder_cache_rows: int = Field(
        default=2_000_000, ge=0, le=1_000_000_000, description="How many of them, at most."
    )
    chunk_size: int = Field(
        default=1_200,
        ge=100,
        le=100_000,
        description="Characters of a document's chunks, at most.",
    )
    chunk_overlap: int = Field(
        default=0,
        ge=0,
        le=50_000,
        description="Characters of a chunk that may be those before it; at most half.",
    )
    retired_keep_s: int = Field(
        default=86_400,
        ge=0,
        description="How long a collection is kept, and kept up, after readers left it.",
    )
    audit_key: SecretStr | None = Field(
        default=None,
        description="Key that signs seals of audit: 32 bytes in base64; the home's if not given.",
    )
    audit_public_keys: str = Field(
        default="",
        pattern=r"^([0-9a-f]{64}(,[0-9a-f]{64})*)?$",
        description="Public keys of other homes, or of before, whose seals count; comma-separated.",
    )
    strict: bool = Field(
        default=False,
        description="Refuse engines beyond this machine without verified TLS, and a single login.",
    )
    vectors_require_encrypted_disk: bool = Field(
        default=False, description="Refuse vectors on a disk that is not encrypted."
    )
    api_host: str = Field(default="127.0.0.1", description="Address the API binds to.")
    api_port: int = Field(default=8765, ge=0, le=65535, description="Its port; 0 takes a free one.")
    api_hosts: str = Field(
        default="",
        description="Further host names the API answers to on loopback, comma-separated.",
    )
    api_origins: str = Field(
        default="",
        pattern=r"^(https?://[A-Za-z0-9.:\[\]-]+( *, *https?://[A-Za-z0-9.:\[\]-]+)*)?$",
        description="Origins of other sites whose pages may call the API, comma-separated.",
    )
    api_proxies: str = Field(
        default="",
        pattern=r"^[0-9A-Fa-f.:/, ]*$",
        description="Addresses of proxies whose X-Forwarded-For is believed, comma-separated.",
    )
    limit_address: RateText = Field(
        default="12000/60",
        description="Requests/seconds from one address beyond this machine, or empty for any.",
    )
    limit_caller: RateText = Field(
        default="6000/60",
        description="Requests/seconds of one user or API key, or empty for any.",
    )
    limit_processes: int = Field(
        default=2,
        ge=1,
        le=1_000,
        description="Processes that share each limit while the cache is down.",
    )
    api_at_work: int = Field(
        default=32,
        ge=1,
        le=10_000,
        description="Requests the API works at, at the same time; fewer under pressure.",
    )
    api_waiting: int = Field(
        default=96, ge=0, le=10_000, description="Requests that wait for a moment to be worked at."
    )
    sign_up: bool = Field(default=False, description="Whether anybody may make an account.")
    oidc: Annotated[dict[ProviderName, OidcProvider], BeforeValidator(_in_json)] = Field(
        default={}, description="Providers of OpenID Connect to sign in by, by name; JSON."
    )
    session_idle_s: int = Field(
        default=43_200, ge=120, description="A session ends when it was not used for so long."
    )
    session_max_s: int = Field(
        default=1_209_600, ge=120, description="A session ends so long after it began."
    )
    init_admin_email: str = Field(
        default="", description="The first administrator, made at `up` unless there is one."
    )
    init_admin_password: SecretStr | None = Field(default=None, description="Their password.")

    @classmethod
    def load(cls, *, environ: Mapping[str, str] | None = None, **given: Any) -> Self:
        """Settings from `given`, the environment and `polyplane.toml` in the working folder.

        Raises Misconfigured that names the key, and the nearest right one for a misspelt key.
        """
        environ = os.environ if environ is None else environ
        values = _from_toml(Path("polyplane.toml"))
        values |= _from_usual_names(environ)
        values |= _from_prefix(environ)
        values |= {name: value for name, value in given.items() if value is not None}
        unknown = sorted(set(values) - set(cls.model_fields))
        if unknown:
            near = get_close_matches(unknown[0], cls.model_fields, n=1)
            raise Misconfigured(
                f"There is no setting {unknown[0]!r}.",
                fix=f"Did you mean {near[0]!r}?" if near else "",
            )
        try:
            return cls(**values)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            name = ".".join(str(part) for part in first["loc"])
            raise Misconfigured(f"The setting {name!r} is wrong: {first['msg']}.") from None

    def url(self, name: str) -> str | None:
        """The secret setting `name` in clear, or None: a URL's embedded engine is to be used."""
        secret = getattr(self, name)
        return secret.get_secret_value() if secret is not None else None


def _from_toml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise Misconfigured(f"{path} cannot be read: {error}.") from error


def _from_usual_names(environ: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for variable, name in USUAL_NAMES.items():
        if value := environ.get(variable):
            values[name] = f"lancedb://{value}" if _is_plain_path(variable, value) else value
    return values


def _is_plain_path(variable: str, value: str) -> bool:
    """LANCEDB_URI is customarily a bare path."""
    return variable == "LANCEDB_URI" and "://" not in value


def _from_prefix(environ: Mapping[str, str]) -> dict[str, Any]:
    return {
        variable.removeprefix(PREFIX).lower(): value
        for variable, value in environ.items()
        if variable.startswith(PREFIX) and value
    }
