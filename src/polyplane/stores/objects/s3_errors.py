"""What goes wrong over S3, in our words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from botocore.exceptions import BotoCoreError, ClientError
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

from polyplane.errors import Misconfigured, NotFound, PolyplaneError, Refused, StoreDown

ABSENT: Final = {"NoSuchKey", "NoSuchUpload", "NoSuchVersion", "404", "NotFound"}
_FORBIDDEN: Final = {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "403"}
_WRONG: Final = {"InvalidPart", "InvalidPartOrder", "EntityTooSmall", "EntityTooLarge", "BadDigest"}


@contextmanager
def in_our_words() -> Iterator[None]:
    """Faults of both libraries become ours; none of them holds a key or a URL."""
    try:
        yield
    except ClientError as error:
        raise _ours(error) from error
    except FileNotFoundError as error:
        raise NotFound("There is no such object.") from error
    except (PermissionDeniedError, UnauthenticatedError) as error:
        raise _forbidden() from error
    except (BotoCoreError, BaseError, OSError, RuntimeError) as error:
        raise StoreDown(f"The object store does not answer ({type(error).__name__}).") from error


def _ours(error: ClientError) -> PolyplaneError:
    code, told = code_of(error), str(error.response.get("Error", {}).get("Message", ""))[:200]
    if code in ABSENT:
        return NotFound("There is no such object or upload.")
    if code == "NoSuchBucket":
        return Misconfigured("The bucket is not there.", fix="Restart the plane, which makes it.")
    if code in _FORBIDDEN:
        return _forbidden()
    if code in _WRONG:
        return Refused(f"The object store refuses it: {code}.")
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if status == 404:
        return NotFound("There is no such object or upload.")
    return StoreDown(f"The object store answers {code}: {told}")


def _forbidden() -> Misconfigured:
    return Misconfigured("The object store refuses us.", fix="Check its keys and the bucket.")


def code_of(error: ClientError) -> str:
    """What S3 calls it."""
    return str(error.response.get("Error", {}).get("Code", ""))


def short(error: BaseException) -> str:
    """Its first line."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200].rstrip(".")
