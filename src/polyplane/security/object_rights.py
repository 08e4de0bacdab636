"""Who may do what to a bucket: policies as every S3 knows them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

PLANE: Final = "plane"
OWNER: Final = "owner"
READER: Final = "reader"

_BUCKET: Final[Mapping[str, tuple[str, ...]]] = {
    PLANE: ("ListBucket", "ListBucketVersions", "ListBucketMultipartUploads"),
    OWNER: (
        *("CreateBucket", "ListBucket", "GetBucketVersioning", "PutBucketVersioning"),
        *("GetLifecycleConfiguration", "PutLifecycleConfiguration"),
    ),
    READER: ("ListBucket", "ListBucketVersions"),
}
_OBJECTS: Final[Mapping[str, tuple[str, ...]]] = {
    PLANE: (
        *("GetObject", "GetObjectVersion", "PutObject", "DeleteObject", "DeleteObjectVersion"),
        *("AbortMultipartUpload", "ListMultipartUploadParts"),
    ),
    OWNER: (),
    READER: ("GetObject", "GetObjectVersion"),
}


def policy(bucket: str, who: str) -> dict[str, Any]:
    """The policy of PLANE (files in the bucket), OWNER (makes the bucket, its versions and rules;
    sees no file) or READER (copies).
    """
    arn = f"arn:aws:s3:::{bucket}"
    found = [_allow(_BUCKET[who], arn)]
    if _OBJECTS[who]:
        found.append(_allow(_OBJECTS[who], f"{arn}/*"))
    return {"Version": "2012-10-17", "Statement": found}


def _allow(actions: tuple[str, ...], resource: str) -> dict[str, Any]:
    return {
        "Effect": "Allow",
        "Action": [f"s3:{action}" for action in actions],
        "Resource": [resource],
    }
