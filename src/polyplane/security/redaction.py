"""What nobody may read in a log or a message, made unreadable.

Three nets, each for what slips through the other two: fields by their names, texts by their form
(tokens, passwords in URLs, headers), and the very values that the settings hold.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

MASK: Final = "[redacted]"
VALUE_MIN: Final = 6
"""A shorter secret is not looked for by value: it would be found in every other word."""
DEPTH_MAX: Final = 8

_NAMES: Final = re.compile(
    r"(?i)passw(or)?d|passphrase|secret|token|credential|authoriz|cookie|api_?key|access_?key"
    r"|private_?key|encryption_?key|audit_key|signature|^dsn$|^pw$|^key_text$"
)
_HARMLESS: Final = re.compile(r"(?i)(^|_)(id|ids|count|hash|s|ms|max|names?|total|at)$")

_FORMS: Final[tuple[tuple[re.Pattern[str], str], ...]] = (
    # scheme://user:password@host, and scheme://token@host
    (re.compile(r"(?i)\b([a-z][a-z0-9+.-]{0,30}://)([^\s/@:'\"]*):[^\s/@'\"]+@"), rf"\1\2:{MASK}@"),
    (re.compile(r"(?i)\b((?:nats|tls|rediss?|https?)://)[^\s/@:'\"]{16,}@"), rf"\1{MASK}@"),
    # ours: a session's token, an API key, whose id may be shown
    (re.compile(r"\bps_[A-Za-z0-9_-]{43}"), f"ps_{MASK}"),
    (re.compile(r"\b(pp_[a-z0-9]{12})_[A-Za-z0-9_-]{43}"), rf"\1_{MASK}"),
    (re.compile(r"(?i)\b(bearer|basic)(\s+)[A-Za-z0-9._~+/=-]{8,}"), rf"\1\2{MASK}"),
    # headers, also as Python or JSON shows them
    (
        re.compile(
            r"(?i)\b((?:proxy-)?authorization|(?:set-)?cookie|x-api-key|api-key)"
            r"(\\?[\"']?\s*[:=]\s*b?\\?[\"']?|\\?[\"']\s*,\s*b?\\?[\"'])"
            r"(?!\[redacted)[^\r\n\"']+"
        ),
        rf"\1\2{MASK}",
    ),
    # name=value of DSNs, queries and forms, "name": "value" of JSON
    (
        re.compile(
            r"(?i)\b([\w-]*(?:password|passwd|secret|token|api_?key|access_?key|signature))"
            r"(\\?[\"']?\s*[=:]\s*b?\\?[\"']?)(?!\[redacted)[^\s&;,\"'}\])]+"
        ),
        rf"\1\2{MASK}",
    ),
    (
        re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*-----|\Z)", re.DOTALL),
        MASK,
    ),
)


class Redactor:
    """Masks secrets in texts and in whatever a log's event holds.

    `values` are secrets that are known, as the settings' are.
    """

    def __init__(self, values: Collection[str] = ()) -> None:
        self._known: set[str] = set()
        self._values: re.Pattern[str] | None = None
        self.learn(values)

    def learn(self, values: Collection[str]) -> None:
        """Mask these, too, from now on."""
        self._known |= {it for it in values if len(it) >= VALUE_MIN}
        known = sorted(self._known, key=len, reverse=True)  # one may be a part of another
        self._values = re.compile("|".join(map(re.escape, known))) if known else None

    def text(self, text: str) -> str:
        """`text` without what is secret in it."""
        if self._values is not None:
            text = self._values.sub(MASK, text)
        for form, shown in _FORMS:
            text = form.sub(shown, text)
        return text

    def anything(self, value: Any, depth: int = 0) -> Any:
        """A value of a log's event: texts masked, fields with a secret's name masked whole."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, bool | int | float | None):
            return value
        if depth == DEPTH_MAX:
            return MASK
        if isinstance(value, Mapping):
            return {key: self.field(key, it, depth + 1) for key, it in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self.anything(it, depth + 1) for it in value]
        return self.text(repr(value))  # an exception, bytes, a row: as it would be shown

    def field(self, name: object, value: Any, depth: int = 0) -> Any:
        """A value by the name it has."""
        is_secret = is_secret_name(name) and not isinstance(value, bool | int | float | None)
        return MASK if is_secret else self.anything(value, depth)


def is_secret_name(name: object) -> bool:
    """Whether what is called so is a secret: `api_key`, but not `key_id` or `tokens_total`."""
    text = str(name)
    return _NAMES.search(text) is not None and _HARMLESS.search(text) is None


def parts_of(secret: str) -> set[str]:
    """What of a secret setting must not be seen.

    Of a URL, its password and the values of its query; of `id:key,id:key`, the keys; else all.
    """
    if "://" not in secret:
        pairs = {pair.partition(":")[2] for pair in secret.split(",") if ":" in pair}
        return {it for it in {secret, *pairs} if it}
    url = urlsplit(secret)
    named = parse_qsl(url.query)
    found = {value for name, value in named if is_secret_name(name)}
    login = url.netloc.rpartition("@")[0]
    user, has_password, password = login.partition(":")
    if login:
        found.add(password if has_password else user)
    return {form for it in found if it for form in (it, unquote(it))}
