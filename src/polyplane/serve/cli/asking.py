"""What is asked of people, and of standard input when nobody sits there."""

from __future__ import annotations

import sys

import typer


def asked_password() -> str:
    """A password: asked for twice, or the first line of standard input."""
    if sys.stdin.isatty():
        return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))
    return sys.stdin.readline().rstrip("\r\n")
