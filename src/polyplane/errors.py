"""Every error polyplane raises, and what it means for a program, a person and an HTTP client.

PolyplaneError                 500  exit 1   anything of ours; catch this one to catch all
├── Misconfigured              500  exit 2   settings, URLs or declarations that cannot work
│   └── EngineMissing          500  exit 2   an engine's package is not installed
├── Unauthenticated            401  exit 8   nobody has said who they are, or it does not hold
├── Forbidden                  403  exit 8   this caller may not do this
├── ScopeViolated              500  exit 1   a store gave what belongs to others: an alarm
├── Refused                    422  exit 3   the request is wrong and nothing was stored
│   ├── NotFound               404  exit 3   there is no such thing
│   ├── Conflict               409  exit 3   the thing changed, or exists already
│   ├── PreconditionFailed     412  exit 3   If-Match names another version
│   ├── TooLarge               413  exit 3   more than the stated bound
│   ├── TooOften               429  exit 3   more tries than are allowed for now; wait
│   ├── OutOfRange             416  exit 3   nothing of a file is in the range
│   └── SagaRefused            422  exit 3   a saga's step that can never succeed: it is undone
├── Unavailable                503  exit 4   an engine does not answer in time; try again
│   ├── TruthDown              503  exit 4   PostgreSQL does not answer
│   ├── StoreDown              503  exit 4   a derived or owned store does not answer
│   ├── FeedDown               503  exit 4   NATS JetStream does not answer
│   ├── Overloaded             503  exit 4   more requests than this process can do
│   └── NotSettled             504  exit 4   a store has not caught up within the deadline
├── DeriveFailed               500  exit 1   a projection's derive raised on a row
├── ObjectLost                 410  exit 1   a blob's object is gone, or not what was put
├── SecretDestroyed            410  exit 1   a secret's data key is destroyed: nobody can read it
├── SecretDamaged              500  exit 1   a ciphertext is not what was written in this place
├── HomeBusy                   409  exit 5   another process runs this home
├── EngineFailed               500  exit 6   an embedded engine did not start or died
└── Fenced                     500  exit 7   another process took over; this one must stop
"""

from __future__ import annotations

from math import ceil


class PolyplaneError(Exception):
    """Anything polyplane raises.

    `message` says what is known, `fix` what to do about it (may be empty).
    """

    status = 500
    exit_code = 1

    def __init__(self, message: str, *, fix: str = "") -> None:
        super().__init__(f"{message} {fix}".strip())
        self.message = message
        self.fix = fix


class Misconfigured(PolyplaneError):
    """Settings, URLs or declarations that cannot work."""

    exit_code = 2


class EngineMissing(Misconfigured):
    """The package of engine `name` is not installed; `extra` brings it."""

    def __init__(self, name: str, extra: str) -> None:
        super().__init__(
            f"The engine {name} is not installed.", fix=f"Run: pip install 'polyplane[{extra}]'"
        )


class Unauthenticated(PolyplaneError):
    """Nobody has said who they are, or what they said does not hold (any more)."""

    status = 401
    exit_code = 8


class Forbidden(PolyplaneError):
    """The caller is known, and may not do this."""

    status = 403
    exit_code = 8


class ScopeViolated(PolyplaneError):
    """A store answered with what belongs to another tenant or owner: an alarm, and no answer."""


class Refused(PolyplaneError):
    """The request is wrong and nothing of it was stored. `field` names the culprit, if one is, and
    `key` the item of several.
    """

    status = 422
    exit_code = 3

    def __init__(self, message: str, *, field: str = "", fix: str = "", key: str = "") -> None:
        super().__init__(message, fix=fix)
        self.field = field
        self.key = key


class NotFound(Refused):
    """There is no such thing."""

    status = 404


class Conflict(Refused):
    """The thing changed meanwhile, or exists already."""

    status = 409


class PreconditionFailed(Refused):
    """The caller's If-Match names another version than the stored one."""

    status = 412


class TooLarge(Refused):
    """More than the stated bound."""

    status = 413


class SagaRefused(Refused):
    """Raised by a step of a saga that did nothing and never will: what was done is undone."""


class TooOften(Refused):
    """More tries than are allowed for now. The next may be made in `retry_after_s` seconds."""

    status = 429

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        wait_s = max(1, ceil(retry_after_s))
        super().__init__(message, fix=f"Wait for {wait_s} s.")
        self.retry_after_s = wait_s


class OutOfRange(Refused):
    """Nothing of a file is in the range that was asked for."""

    status = 416


class Unavailable(PolyplaneError):
    """An engine does not answer in time; the same call may succeed later."""

    status = 503
    exit_code = 4


class TruthDown(Unavailable):
    """PostgreSQL does not answer."""


class StoreDown(Unavailable):
    """A derived or owned store does not answer."""


class FeedDown(Unavailable):
    """NATS JetStream does not answer."""


class Overloaded(Unavailable):
    """More requests at once than this process can do; nothing was done of this one."""


class NotSettled(Unavailable):
    """A store has not applied the caller's write within the deadline."""

    status = 504


class DeriveFailed(PolyplaneError):
    """A projection's `derive` raised on the row under `key`."""

    def __init__(self, projection: str, key: str, error: BaseException) -> None:
        super().__init__(
            f"{projection}.derive raised {type(error).__name__} on the row {key}.",
            fix="Make derive total: return None for a row that nothing follows from.",
        )
        self.projection = projection
        self.key = key


class ObjectLost(PolyplaneError):
    """A blob was acknowledged, and its object is gone or not what was put any more."""

    status = 410


class SecretDestroyed(PolyplaneError):
    """A secret's data key was destroyed: nobody can read it any more, on purpose."""

    status = 410


class SecretDamaged(PolyplaneError):
    """A ciphertext, or a wrapped key, is not what was written in this place."""


class HomeBusy(PolyplaneError):
    """Another process runs this home."""

    status = 409
    exit_code = 5

    def __init__(self, home: str, pid: int, since: str) -> None:
        super().__init__(
            f"{home} is in use by process {pid}, running since {since}.",
            fix=f"Stop it (kill {pid}), or choose another home with --home.",
        )
        self.pid = pid


class EngineFailed(PolyplaneError):
    """Embedded engine `name` did not start, or died and could not be restarted."""

    exit_code = 6

    def __init__(self, name: str, detail: str, *, fix: str = "") -> None:
        super().__init__(f"The engine {name} failed: {detail}", fix=fix)
        self.name = name


class Fenced(PolyplaneError):
    """Another process took over this work; this one must stop without writing."""

    exit_code = 7
