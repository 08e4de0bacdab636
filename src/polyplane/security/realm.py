"""What on a shared engine is one plane's, and who else may come there under which name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from polyplane.errors import Refused
from polyplane.settings import Settings

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


def bucket_of(namespace: str) -> str:
    """Where a plane keeps its blobs, unless it is told otherwise."""
    return f"polyplane-{namespace.replace('_', '-')}-blobs"


@dataclass(frozen=True, slots=True)
class Realm:
    """All that is a plane's on engines that others use, too: what bears its namespace, a bucket."""

    namespace: str = "pp"
    bucket: str = bucket_of("pp")

    @classmethod
    def of(cls, settings: Settings) -> Realm:
        """What is the plane's that `settings` tell of."""
        namespace = settings.namespace
        return cls(namespace, settings.objects_bucket or bucket_of(namespace))

    @property
    def plane(self) -> str:
        """The user that the plane comes as."""
        return f"{self.namespace}-plane"

    @property
    def admin(self) -> str:
        """The user that may do everything to what is the plane's."""
        return f"{self.namespace}-admin"


@dataclass(frozen=True, slots=True)
class Sender:
    """A program outside that sends to an application, for one tenant, under one name.

    Raises Refused for names that are not letters, digits, `-` and `_`, at most 64.
    """

    application: str
    tenant: str
    name: str

    def __post_init__(self) -> None:
        for said, text in (("tenant", self.tenant), ("name", self.name)):
            if not _NAME.fullmatch(text):
                raise Refused(
                    f"{text!r} cannot be the {said} of a sender.",
                    field=said,
                    fix="Use letters, digits, - and _, at most 64.",
                )

    def user(self, namespace: str) -> str:
        """What it is called: no two are called alike, and none as what is no sender."""
        return f"{namespace}~{self.application}~{self.tenant}~{self.name}"
