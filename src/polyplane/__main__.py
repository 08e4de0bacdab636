"""The command `polyplane`: the command line, told which applications there are."""

from __future__ import annotations

from polyplane.serve.cli.program import Program, run

PROGRAM = Program(
    applications={
        "laboratory": "polyplane.domains.laboratory",
        "agents": "polyplane.domains.agents",
        "assistant": "polyplane.domains.assistant",
    },
    demo={
        "laboratory": "polyplane.domains.laboratory.demo",
        "agents": "polyplane.domains.agents.demo",
        "assistant": "polyplane.domains.assistant.demo",
    },
    controller="polyplane.domains.laboratory.controller:run_controller",
    ingest="polyplane.domains.assistant.over_routes",
    learn="polyplane.domains.agents.learning.over_routes:learn_over",
)


def main() -> None:
    """Run the command that the arguments name; exits with its code."""
    run(PROGRAM)


if __name__ == "__main__":
    main()
