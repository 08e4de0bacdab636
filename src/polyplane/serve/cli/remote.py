"""The way to a running `polyplane up`: its API, as the operator of its home."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, Protocol

import httpx

from polyplane.embedded import running
from polyplane.errors import (
    Forbidden,
    HomeBusy,
    Misconfigured,
    PolyplaneError,
    Refused,
    Unauthenticated,
    Unavailable,
)
from polyplane.serve.token import ops_token
from polyplane.settings import Settings

CALL_TIMEOUT_S: Final = 30.0
LONG_TIMEOUT_S: Final = 3600.0


class Call(Protocol):
    """Asks a route below `/api/v1/` as the operator."""

    async def __call__(self, method: str, path: str, **given: Any) -> Any:
        """What it answers; `parameters` of the query, `json`, `headers`. Raises its problem."""
        ...


class Remote:
    """The operator's routes of a running `up`."""

    def __init__(self, api_url: str, token: str) -> None:
        self.api_url = api_url
        self._client = httpx.Client(
            base_url=f"{api_url}/api/v1/",
            headers={"Authorization": f"Bearer {token}"},
            trust_env=False,  # a proxy has no business between us
        )

    def get(self, path: str, **parameters: Any) -> Any:
        """What a GET answers. Raises what its problem document stands for."""
        return self._call("GET", f"ops/{path}", CALL_TIMEOUT_S, parameters)

    def post(self, path: str, **parameters: Any) -> Any:
        """What a POST answers; it may take up to an hour."""
        return self._call("POST", f"ops/{path}", LONG_TIMEOUT_S, parameters)

    def call(self, method: str, path: str, **given: Any) -> Any:
        """What any route below `/api/v1/` answers; None when that is nothing."""
        return self._call(method, path, LONG_TIMEOUT_S, **given)

    @contextmanager
    def reading(self, path: str, start: int, headers: dict[str, str]) -> Iterator[Iterator[bytes]]:
        """The bytes that a GET answers with, from byte `start` on, as they come."""
        headers = headers | ({"Range": f"bytes={start}-"} if start else {})
        try:
            with self._client.stream("GET", path, headers=headers, timeout=CALL_TIMEOUT_S) as it:
                if it.is_error:
                    it.read()
                    raise error_of(it)
                yield it.iter_bytes()
        except httpx.HTTPError as error:
            raise Unavailable(f"{self.api_url} does not answer: {error}.") from error

    def lines(self, path: str, **parameters: Any) -> Iterator[bytes]:
        """The bytes that a GET of an operator's route answers with, as they come."""
        given, timeout_s = parameters, CALL_TIMEOUT_S
        try:
            with self._client.stream("GET", f"ops/{path}", params=given, timeout=timeout_s) as it:
                if it.is_error:
                    it.read()
                    raise error_of(it)
                yield from it.iter_bytes()
        except httpx.HTTPError as error:
            raise Unavailable(f"{self.api_url} does not answer: {error}.") from error

    def _call(
        self, method: str, path: str, timeout_s: float, parameters: Any = None, **given: Any
    ) -> Any:
        try:
            answer = self._client.request(
                method, path, params=parameters, timeout=timeout_s, **given
            )
        except httpx.HTTPError as error:
            raise Unavailable(f"{self.api_url} does not answer: {error}.") from error
        if answer.is_error:
            raise error_of(answer)
        return answer.json() if answer.content else None


def find_running(settings: Settings) -> Remote | None:
    """The `up` that runs the home of `settings`, or None.

    Raises HomeBusy when the home is held by a process that serves no API (yet).
    """
    home = settings.home
    try:
        owner = running(home)
    except PermissionError as error:
        raise Refused(f"{home} belongs to somebody else.", fix="Run as its owner.") from error
    if owner is None:
        return None
    if owner.api_url is None:
        since = owner.started_at.isoformat(timespec="seconds")
        raise HomeBusy(str(home), owner.pid, since)
    return Remote(owner.api_url, ops_token(home))


def nats_url_of(
    settings: Settings, remote: Remote | None, application: str, tenant: str, name: str
) -> str:
    """Where a program outside finds NATS: by the setting; or on the home, as a user of its own.

    Raises Misconfigured when nothing runs there, or its NATS is somebody else's.
    """
    if url := settings.url("nats_url"):
        return url
    if remote is None:
        raise Misconfigured(
            f"No NATS is known: nothing runs on {settings.home}.",
            fix="Run: polyplane up (in another terminal), or pass --nats-url.",
        )
    return str(remote.post("senders", application=application, tenant=tenant, name=name)["url"])


def error_of(answer: httpx.Response) -> PolyplaneError:
    """What a problem document stands for."""
    try:
        problem = answer.json()
        message, fix = str(problem["detail"]), str(problem.get("fix", ""))
    except (ValueError, KeyError, TypeError):
        message, fix = f"{answer.url.path} answered {answer.status_code}.", ""
    if answer.status_code == 401:
        return Unauthenticated(message, fix=fix)
    if answer.status_code == 403:
        return Forbidden(message, fix=fix)
    if answer.status_code < 500:
        return Refused(message, fix=fix)
    if answer.status_code in (503, 504):
        return Unavailable(message, fix=fix)
    return PolyplaneError(message, fix=fix)
