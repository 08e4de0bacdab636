"""What wraps data keys: a set of key-encryption keys, or an application's own key service."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Wrapped(NamedTuple):
    """A data key, encrypted with the key-encryption key `kek`."""

    kek: str
    body: bytes


class KeyWrapping(Protocol):
    """Wraps and unwraps data keys of 32 bytes, as a key management service does.

    `about` says which data key it is: what was wrapped with one is not to be unwrapped with
    another (an encryption context, additional authenticated data). A call that fails for other
    reasons than a wrong key may raise anything: it is taken for a service that does not answer.
    """

    @property
    def primary(self) -> str:
        """The id of the key-encryption key that new data keys are wrapped with."""
        ...

    async def wrap(self, key: bytes, about: bytes) -> Wrapped:
        """`key`, wrapped with the primary key-encryption key."""
        ...

    async def unwrap(self, wrapped: Wrapped, about: bytes) -> bytes:
        """The data key. Raises SecretDamaged for what was not wrapped so."""
        ...
