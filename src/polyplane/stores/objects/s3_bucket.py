"""The bucket itself: made, told to keep versions, and given its lifecycle rules. Blocking."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog
from botocore.exceptions import ClientError

from polyplane.stores.objects.lifecycle import Lifecycle, merged, same
from polyplane.stores.objects.s3_errors import ABSENT, code_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_log = structlog.get_logger(__name__)


def prepare(client: S3Client, bucket: str, lifecycle: Lifecycle) -> None:
    """Make the bucket what it must be; asks first, and changes only what is otherwise."""
    _make(client, bucket)
    if client.get_bucket_versioning(Bucket=bucket).get("Status") != "Enabled":
        client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    held = rules(client, bucket)
    wanted: Any = merged(held, lifecycle.rules())
    if same(held, wanted):
        return
    client.put_bucket_lifecycle_configuration(
        Bucket=bucket, LifecycleConfiguration={"Rules": wanted}
    )
    if not same(rules(client, bucket), wanted):
        _log.warning("objects.rules_differ", bucket=bucket)


def _make(client: S3Client, bucket: str) -> None:
    try:
        client.head_bucket(Bucket=bucket)
    except ClientError as error:
        if code_of(error) not in (*ABSENT, "NoSuchBucket"):
            raise
        try:
            client.create_bucket(Bucket=bucket)
        except ClientError as refused:  # another process was first, or it is somebody else's
            if code_of(refused) not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                raise
            client.head_bucket(Bucket=bucket)


def rules(client: S3Client, bucket: str) -> list[dict[str, Any]]:
    """The lifecycle rules the bucket has."""
    try:
        found = client.get_bucket_lifecycle_configuration(Bucket=bucket)
    except ClientError as error:
        if code_of(error) == "NoSuchLifecycleConfiguration":
            return []
        raise
    return [dict(rule) for rule in found.get("Rules", [])]
