"""Logs of the command line: lines on standard error, so that standard output stays the result.

Every event, ours or a library's, goes through one `Redactor` just before it is rendered, traces as
text.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from traceback import format_exception
from types import TracebackType
from typing import Any, Final

import orjson
import structlog

from polyplane.security.redaction import Redactor, parts_of
from polyplane.security.secret_file import OPS_TOKEN
from polyplane.settings import Settings

KEPT: Final = ("secrets.json", "keys.json")
"""Files of a home with values that are secrets, besides the operator's token."""

_STAMPED: Final[list[structlog.typing.Processor]] = [
    structlog.contextvars.merge_contextvars,
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso"),
]


def configure(level: int = logging.WARNING, settings: Settings | None = None) -> Redactor:
    """Log from `level` on. Traces come without the variables' values: those may be secrets.

    Libraries are heard from warnings on, whatever they set up themselves when they are imported.
    What `settings` and their home hold of secrets is masked by value, too; what is learned later,
    the `Redactor` that is returned can be told.
    """
    redactor = Redactor(known_secrets(settings) if settings is not None else ())
    shown: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer()
        if sys.stderr.isatty()
        else structlog.processors.JSONRenderer()
    )
    rendered: list[structlog.typing.Processor] = [
        structlog.processors.format_exc_info,
        _Masked(redactor),
        shown,
    ]
    structlog.configure(
        processors=[*_STAMPED, *rendered],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    theirs = logging.StreamHandler(sys.stderr)
    theirs.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*_STAMPED, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendered],
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[theirs], force=True)
    logging.captureWarnings(True)
    sys.excepthook = _crash(redactor)
    return redactor


class _Masked:
    """The processor before the last: everything of an event but how it is called."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor

    def __call__(self, _: Any, __: str, event: structlog.typing.EventDict) -> Mapping[str, Any]:
        return {str(name): self._redactor.field(name, value) for name, value in event.items()}


def _crash(redactor: Redactor) -> Any:
    """Python's last words, masked: a trace ends with a message, which may quote a URL."""

    def tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        sys.stderr.write(redactor.text("".join(format_exception(kind, error, trace))))

    return tell


def known_secrets(settings: Settings) -> set[str]:
    """Values that must not be seen: of secret settings, and of the files of the home."""
    found: set[str] = set()
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if hasattr(value, "get_secret_value"):
            found |= parts_of(value.get_secret_value())
    found |= _texts(_read(settings.home / OPS_TOKEN).strip())
    for name in KEPT:
        try:
            found |= _texts(orjson.loads(_read(settings.home / name)))
        except orjson.JSONDecodeError:  # none, or one that whoever needs it will complain about
            continue
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""


def _texts(value: Any) -> set[str]:
    """Texts in what a file holds that are long enough to be secrets of ours."""
    if isinstance(value, str):
        return {value} if len(value) >= SECRET_MIN else set()
    if isinstance(value, dict):
        value = list(value.values())
    return set().union(*map(_texts, value)) if isinstance(value, list) else set()


SECRET_MIN: Final = 20
"""Shorter texts in those files are names."""
