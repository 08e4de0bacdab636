"""Schemathesis on the whole document: what was asked, what came back, what was wrong."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import schemathesis
from schemathesis.engine import events, from_schema

from tests.front.serving import Served

PHASES: Final = ("examples", "coverage", "fuzzing", "stateful")
CALL_TIMEOUT_S: Final = 40.0
SHOWN_MAX: Final = 200
REJECTED: Final = [
    "400",
    "401",
    "403",
    "404",
    "405",
    "409",
    "413",
    "414",
    "415",
    "422",
    "429",
    "431",
]
"""What a wrong request may end in: too large ones, too."""
OF_A_KIND_MAX: Final = 2
EXPECTED: Final = ["2xx", "401", "403", "404", "409", "410", "412", "416", "422", "429"]
"""What a right request may end in: 422, too, where what it names is not there, or is too weak."""
LEAVING: Final = r"^/api/v1/auth/(sign-out|sessions|password)"
PEOPLES: Final = r"^/api/v1/(auth/(me|api-keys)|organizations)"
OPERATORS: Final = r"^/api/v1/(ops|blobs)"
ENDLESS: Final = r"^/api/v1/events$"
"""A stream that is followed does not end: nothing here would wait for it."""
SHADOWED: Final = r"/(blobs/(collect|urls)|learnings/search)$"
"""Also what a sibling takes for an id that is none: other methods answer 422 or 404, not 405."""
ANYBODYS: Final = r"^(/healthz|/readyz|/metrics|/api/v1/auth/sign-(in|up))"


@dataclass(slots=True)
class Explored:
    """Requests by phase and by status; failed checks, and errors of the tool, in words."""

    requests: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    checks: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    operations: set[str] = field(default_factory=set)

    @property
    def is_clean(self) -> bool:
        """Whether nothing was wrong."""
        return not self.failures and not self.errors and not self.server_errors

    @property
    def server_errors(self) -> int:
        """Responses 5xx."""
        return sum(times for status, times in self.statuses.items() if status.startswith("5"))

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "requests": sum(self.requests.values()),
            "operations": len(self.operations),
            "server_errors": self.server_errors,
            "failures": dict(sorted(self.failures.items())),
            "failed": self.failed[:SHOWN_MAX],
            "errors": self.errors[:SHOWN_MAX],
            "by_phase": dict(sorted(self.requests.items())),
            "by_status": dict(sorted(self.statuses.items())),
            "by_check": dict(sorted(self.checks.items())),
        }


def explore(
    served: Served,
    *,
    seed: int,
    examples: int,
    phases: Sequence[str] = PHASES,
    only: str = "",
    steps: int = 6,
) -> Explored:
    """Call it in a thread: it blocks. `only` is a pattern of paths."""
    config = schemathesis.Config.from_dict(
        {"seed": seed, **_config(served, examples, phases, steps)}
    )
    paths = {path: it for path, it in served.document["paths"].items() if re.search(only, path)}
    document = {**served.document, "paths": paths}
    schema = schemathesis.openapi.from_dict(document, config=config)
    found = Explored()
    for event in from_schema(schema).execute():
        match event:
            case events.ScenarioFinished():
                _note(found, event)
            case events.NonFatalError():
                found.errors.append(str(event.info.format())[:2_000])
            case events.FatalError():
                found.errors.append(repr(event.exception)[:2_000])
    return found


def _note(found: Explored, event: events.ScenarioFinished) -> None:
    phase = event.phase.value
    for case_id, interaction in event.recorder.interactions.items():
        found.requests[phase] += 1
        status = str(interaction.response.status_code) if interaction.response else "none"
        found.statuses[status] += 1
        case = event.recorder.cases[case_id].value
        found.operations.add(case.operation.label)
    for case_id, checks in event.recorder.checks.items():
        for check in checks:
            found.checks[check.name] += 1
            if check.failure_info is not None:
                label = event.recorder.cases[case_id].value.operation.label
                failure = check.failure_info.failure
                found.failures[check.name] += 1
                found.kinds[f"{check.name} {label}"] += 1
                if found.kinds[f"{check.name} {label}"] > OF_A_KIND_MAX:
                    continue
                sample = check.failure_info.code_sample
                text = f"{phase} {label}: {check.name}: {failure.title}: {failure.message}"
                found.failed.append(f"{text[:900]}\n{sample[:900]}")


def _config(served: Served, examples: int, phases: Sequence[str], steps: int) -> Mapping[str, Any]:
    headers: tuple[tuple[str, dict[str, str]], ...] = (
        (LEAVING, served.leaving),
        (PEOPLES, served.person),
        (OPERATORS, served.operator),
        (ANYBODYS, {}),
    )
    return {
        "base-url": served.url,
        "headers": served.side.headers,
        "request-timeout": CALL_TIMEOUT_S,
        "continue-on-failure": True,
        "workers": 1,
        "generation": {"max-examples": examples, "database": "none", "no-shrink": True},
        "phases": {
            **{name: {"enabled": name in phases} for name in PHASES},
            "stateful": {"enabled": "stateful" in phases, "max-steps": steps},
        },
        "checks": {
            "positive_data_acceptance": {"expected-statuses": EXPECTED},
            "negative_data_rejection": {"expected-statuses": REJECTED},
        },
        "operations": [
            *(
                {"include-path-regex": pattern, "headers": given}
                for pattern, given in headers
                if given
            ),
            {"include-path-regex": ENDLESS, "enabled": False},
            {
                "include-path-regex": SHADOWED,
                "checks": {
                    "unsupported_method": {"enabled": False},
                    "allow_header_conformance": {"enabled": False},
                },
            },
        ],
    }
