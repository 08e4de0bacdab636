"""The laboratory: experiments whose activities run on controllers, and what they teach."""

from polyplane.domains.laboratory.application import application

__all__ = ["application"]
