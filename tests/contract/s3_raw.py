"""A bucket looked at with plain boto3, past the adapter."""

from __future__ import annotations

from typing import Any

from polyplane.testing.objects import RawVersion


class Bucket:
    """One bucket; see `RawBucket`."""

    def __init__(self, client: Any, name: str) -> None:
        self._client = client
        self._at = {"Bucket": name}

    def versions(self) -> list[RawVersion]:
        page = self._client.list_object_versions(**self._at)
        found = []
        for it in page.get("Versions", []):
            key, version = it["Key"], it["VersionId"]
            held = self._client.get_object(**self._at, Key=key, VersionId=version)
            content, kind = held["Body"].read(), held["ContentType"]
            found.append(RawVersion(key, version, content, kind, it["IsLatest"]))
        return found + [
            RawVersion(it["Key"], it["VersionId"], None, "", it["IsLatest"])
            for it in page.get("DeleteMarkers", [])
        ]

    def parts(self, key: str, upload: str) -> list[tuple[int, int, str]]:
        page = self._client.list_parts(**self._at, Key=key, UploadId=upload)
        return [(it["PartNumber"], it["Size"], it["ETag"].strip('"')) for it in page["Parts"]]

    def uploads(self) -> list[tuple[str, str]]:
        page = self._client.list_multipart_uploads(**self._at)
        return [(it["Key"], it["UploadId"]) for it in page.get("Uploads", [])]

    def put(self, key: str, content: bytes) -> str:
        return str(self._client.put_object(**self._at, Key=key, Body=content)["VersionId"])

    def hide(self, key: str) -> None:
        self._client.delete_object(**self._at, Key=key)

    def remove(self, key: str, version: str) -> None:
        """For good."""
        self._client.delete_object(**self._at, Key=key, VersionId=version)

    def is_versioned(self) -> bool:
        found = self._client.get_bucket_versioning(**self._at)
        return bool(found.get("Status") == "Enabled")

    def rules(self) -> list[dict[str, Any]]:
        found = self._client.get_bucket_lifecycle_configuration(**self._at)
        return list(found["Rules"])

    def add_rule(self, rule: dict[str, Any]) -> None:
        rules = {"Rules": [*self.rules(), rule]}
        self._client.put_bucket_lifecycle_configuration(**self._at, LifecycleConfiguration=rules)
