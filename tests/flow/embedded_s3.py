"""An S3 client for the URL that the embedded engines give."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config


def client_of(url: str) -> Any:
    """A client with the keys in the URL, that neither waits nor retries for long."""
    where = urlsplit(url)
    return boto3.client(
        "s3",
        endpoint_url=f"http://{where.hostname}:{where.port}",
        aws_access_key_id=where.username,
        aws_secret_access_key=where.password,
        region_name="us-east-1",
        config=Config(retries={"max_attempts": 1}, connect_timeout=5, read_timeout=10),
    )
