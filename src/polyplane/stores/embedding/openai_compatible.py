"""Embeddings of any endpoint that speaks OpenAI's `POST /embeddings`.

The URL is the endpoint's base with the model behind it:
`https://host/v1?model=text-embedding-3-small&dimensions=1536`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit, urlunsplit

import httpx
import numpy as np
import orjson
import stamina

from polyplane.errors import Misconfigured, Refused, StoreDown

BATCH_TEXTS: Final = 128
"""Most texts of one request."""
BATCH_CHARACTERS: Final = 200_000
"""About as many characters as one request may have: endpoints bound its tokens."""
_REQUESTS: Final = 4
"""Requests under way at once."""
_ATTEMPTS: Final = 5
_PATIENCE_S: Final = 90.0

Vectors = np.ndarray[Any, np.dtype[np.float32]]


class _TryAgain(Exception):
    """The endpoint is busy or broken; `reason` is safe to show."""

    def __init__(self, reason: str, wait_s: float = 0.0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.wait_s = wait_s


async def connect(
    url: str, *, api_key: str = "", timeout_s: float = 30.0, **options: Any
) -> OpenAIEmbedder:
    """The embedder at `url`, whose query names `model` and `dimensions`.

    Raises Misconfigured for a URL or option that cannot work; nothing is sent yet.
    """
    if options:
        raise Misconfigured(f"The embedder has no option {min(options)!r}.")
    parts = urlsplit(url)
    asked = dict(parse_qsl(parts.query))
    model, dimensions = asked.pop("model", ""), asked.pop("dimensions", "")
    if asked or not model or not dimensions.isdecimal() or not 1 <= int(dimensions) <= 65_536:
        raise Misconfigured(
            "The embedder's URL must name its model and dimensions, and nothing else.",
            fix="Write https://host/v1?model=text-embedding-3-small&dimensions=1536.",
        )
    if parts.username or parts.password or not parts.hostname:
        raise Misconfigured("The embedder's URL needs a host and must not hold a secret.")
    endpoint = urlunsplit(
        (parts.scheme, parts.netloc, f"{parts.path.rstrip('/')}/embeddings", "", "")
    )
    headers = {"Content-Type": "application/json"}
    if api_key:
        headers["Authorization"] = f"Bearer {api_key}"
    client = httpx.AsyncClient(
        headers=headers, timeout=timeout_s, limits=httpx.Limits(max_connections=_REQUESTS)
    )
    return OpenAIEmbedder(client, endpoint, model, int(dimensions))


class OpenAIEmbedder:
    """Embeddings over HTTP, in batches, tried again while the endpoint is busy.

    No error shows the key, the texts, or what the endpoint answered about them.
    """

    def __init__(
        self, client: httpx.AsyncClient, endpoint: str, model: str, dimensions: int
    ) -> None:
        self.identity = f"{model}-{dimensions}"
        self.dimensions = dimensions
        self._client = client
        self._endpoint = endpoint
        self._model = model
        self._free = asyncio.Semaphore(_REQUESTS)

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors, float32, shape (len(texts), dimensions).

        Raises StoreDown when the endpoint stays busy or broken, Misconfigured when it refuses the
        key or the model, Refused when it refuses the texts or answers with something else.
        """
        if not len(texts):
            return np.empty((0, self.dimensions), dtype=np.float32)
        try:
            async with asyncio.TaskGroup() as group:
                pieces = [group.create_task(self._batch(piece)) for piece in _batches(texts)]
        except ExceptionGroup as failed:  # the first; the others were called off
            raise failed.exceptions[0] from None
        return np.concatenate([piece.result() for piece in pieces])

    async def close(self) -> None:
        """Close the connections. Safe to call twice."""
        await self._client.aclose()

    async def _batch(self, texts: list[str]) -> Vectors:
        # An endpoint refuses an empty text; a blank one means as little.
        body = orjson.dumps(
            {
                "model": self._model,
                "input": [text or " " for text in texts],
                "dimensions": self.dimensions,
                "encoding_format": "float",
            }
        )
        try:
            async for attempt in stamina.retry_context(
                on=_asked_to_wait, attempts=_ATTEMPTS, timeout=_PATIENCE_S
            ):
                with attempt:
                    async with self._free:
                        return self._vectors(await self._answer(body), len(texts))
        except _TryAgain as error:
            raise StoreDown(f"The embedder does not answer: {error.reason}.") from None
        raise AssertionError("a retry ends with an answer or an error")

    async def _answer(self, body: bytes) -> bytes:
        """The body of a good answer; what else may come is told apart by its status alone."""
        try:
            response = await self._client.post(self._endpoint, content=body)
        except httpx.HTTPError as error:
            raise _TryAgain(type(error).__name__) from None
        status = response.status_code
        if status == 200:
            return response.content
        if status in (408, 409, 425, 429) or status >= 500:
            raise _TryAgain(f"status {status}", _retry_after_s(response))
        if status in (401, 403, 404):
            raise Misconfigured(f"The embedder refuses the key or model (status {status}).")
        raise Refused(f"The embedder refuses the texts (status {status}).", field="text")

    def _vectors(self, answer: bytes, count: int) -> Vectors:
        try:
            rows = sorted(orjson.loads(answer)["data"], key=lambda row: row["index"])
            if [row["index"] for row in rows] != list(range(count)):
                raise ValueError("not one embedding for each text")
            vectors = np.asarray([row["embedding"] for row in rows], dtype=np.float32)
        except (ValueError, KeyError, TypeError) as error:
            raise StoreDown("The embedder's answer is no list of embeddings.") from error
        if vectors.shape != (count, self.dimensions):
            given = vectors.shape[-1]
            raise Misconfigured(f"The embedder gives {given} dimensions, not {self.dimensions}.")
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not (np.isfinite(lengths).all() and lengths.all()):
            raise StoreDown("The embedder gave a vector that has no direction.")
        vectors /= lengths
        return vectors


def _asked_to_wait(error: Exception) -> bool | float:
    """Whether to try again, and after how many seconds if the endpoint says so."""
    if not isinstance(error, _TryAgain):
        return False
    return error.wait_s or True


def _retry_after_s(response: httpx.Response) -> float:
    """The seconds of Retry-After, at most a minute; 0 when it says none."""
    try:
        return min(60.0, max(0.0, float(response.headers.get("Retry-After", 0))))
    except ValueError:  # a date
        return 0.0


def _batches(texts: Sequence[str]) -> list[list[str]]:
    """`texts` in order, in pieces of at most BATCH_TEXTS and about BATCH_CHARACTERS."""
    batches: list[list[str]] = [[]]
    size = 0
    for text in texts:
        if batches[-1] and (len(batches[-1]) == BATCH_TEXTS or size + len(text) > BATCH_CHARACTERS):
            batches.append([])
            size = 0
        batches[-1].append(text)
        size += len(text)
    return batches
