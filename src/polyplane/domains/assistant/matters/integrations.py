"""The kinds of integrations, and what may be set of each."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

import polyplane as pp

Label = Annotated[str, StringConstraints(min_length=1, max_length=255)]


class Settings(BaseModel):
    """Of some integration: a field nobody knows is a mistake."""

    model_config = ConfigDict(extra="forbid", strict=True)


class MailSettings(Settings):
    """Which mail is read, and how far back."""

    folders: list[Label] = Field(default=["INBOX"], max_length=100)
    days_back: int = Field(default=30, ge=1, le=3_650)
    may_send: bool = False


class CalendarSettings(Settings):
    """Which calendars are kept up, and for which time."""

    calendars: list[Label] = Field(default=[], max_length=100)
    days_back: int = Field(default=30, ge=0, le=3_650)
    days_ahead: int = Field(default=365, ge=1, le=3_650)
    may_write: bool = False


class ChatSettings(Settings):
    """Which channels are listened to."""

    channels: list[Label] = Field(default=[], max_length=100)
    only_mentions: bool = True


class FilesSettings(Settings):
    """Which folders are read."""

    folders: list[Label] = Field(default=[], max_length=100)
    patterns: list[Label] = Field(default=["*"], max_length=100)
    size_max_mb: int = Field(default=50, ge=1, le=1_000)


class MoneySettings(Settings):
    """Which accounts are taken in, and from when."""

    accounts: list[Label] = Field(default=[], max_length=100)
    days_back: int = Field(default=90, ge=1, le=3_650)


KINDS: Final[dict[str, type[Settings]]] = {
    "mail": MailSettings,
    "calendar": CalendarSettings,
    "chat": ChatSettings,
    "files": FilesSettings,
    "money": MoneySettings,
}


def checked(kind: str, settings: dict[str, Any]) -> dict[str, Any]:
    """All settings of this kind, the ones that were left out by their defaults.

    Raises NotFound for a kind there is not, Refused, naming the field, for a setting that is wrong.
    """
    if (known := KINDS.get(kind)) is None:
        raise pp.NotFound(
            f"There is no kind {kind[:50]!r} of integration.",
            field="kind",
            fix=f"There are: {', '.join(KINDS)}.",
        )
    try:
        return known.model_validate(settings).model_dump(mode="json")
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, ("settings", *first["loc"])))
        raise pp.Refused(f"{first['msg']}.", field=where) from None
