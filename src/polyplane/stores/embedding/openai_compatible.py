"""Embeddings of any endpoint that speaks OpenAI's `POST /embeddings`.

The URL is the endpoint's base with the model behind it:
`https://host/v1?model=text-embedding-3-small&dimensions=1536`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import uniform
from time import time
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit, urlunsplit

import httpx
import numpy as np
import orjson
import stamina

from polyplane.errors import Misconfigured, Refused, StoreDown
from polyplane.stores.embedding.batching import Tally, batches
from polyplane.stores.embedding.pacing import Pace, retry_after_s
from polyplane.stores.protocol import Spent

BATCH_TEXTS: Final = 128
BATCH_TOKENS: Final = 60_000
_REQUESTS: Final = 4
"""Requests under way at once."""
_ATTEMPTS: Final = 5
_PATIENCE_S: Final = 90.0
_ANSWER_BYTES_A_NUMBER: Final = 64
"""More than any endpoint writes for one; a longer answer is not what was asked for."""
_ANSWER_BYTES_REST: Final = 1 << 20

Vectors = np.ndarray[Any, np.dtype[np.float32]]


class _TryAgain(Exception):
    """The endpoint is busy or broken; `reason` is safe to show."""

    def __init__(self, reason: str, wait_s: float = 0.0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.wait_s = wait_s


async def connect(
    url: str,
    *,
    api_key: str = "",
    timeout_s: float = 30.0,
    batch_texts: int = BATCH_TEXTS,
    batch_tokens: int = BATCH_TOKENS,
    requests_per_minute: int = 0,
    tokens_per_minute: int = 0,
    **options: Any,
) -> OpenAIEmbedder:
    """The embedder at `url`, whose query names `model` and `dimensions`.

    A request has at most `batch_texts`, and about `batch_tokens`. Of `requests_per_minute` and
    `tokens_per_minute` this process sends no more; 0 is no bound.
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
    return OpenAIEmbedder(
        _Endpoint(client, endpoint, timeout_s),
        model,
        int(dimensions),
        batch=(batch_texts, batch_tokens),
        pace=Pace(requests_per_minute, tokens_per_minute),
    )


class _Endpoint:
    """One address to post to. What may come back is told apart by its status alone."""

    def __init__(self, client: httpx.AsyncClient, url: str, timeout_s: float) -> None:
        self.close = client.aclose
        self._client = client
        self._url = url
        self._timeout_s = timeout_s

    async def post(self, body: bytes, *, answer_bytes_max: int) -> bytes:
        """The body of a good answer. Raises _TryAgain, Misconfigured or Refused."""
        try:
            # httpx bounds each wait for bytes; an answer in drops must end, too.
            async with (
                asyncio.timeout(2 * self._timeout_s),
                self._client.stream("POST", self._url, content=body) as response,
            ):
                if response.status_code == 200:
                    return await self._read(response, answer_bytes_max)
        except (httpx.HTTPError, TimeoutError) as error:
            raise _TryAgain(type(error).__name__) from None
        status = response.status_code
        if status in (408, 409, 425, 429) or status >= 500:
            said = response.headers
            wait_s = retry_after_s(said.get("Retry-After", ""), said.get("Date", ""), time())
            raise _TryAgain(f"status {status}", wait_s)
        if status in (401, 403, 404):
            raise Misconfigured(f"The embedder refuses the key or model (status {status}).")
        raise Refused(f"The embedder refuses the texts (status {status}).", field="text")

    async def _read(self, response: httpx.Response, bytes_max: int) -> bytes:
        found = bytearray()
        async for piece in response.aiter_bytes():
            found += piece
            if len(found) > bytes_max:
                raise StoreDown("The embedder's answer is too long to be a list of embeddings.")
        return bytes(found)


class OpenAIEmbedder:
    """Embeddings over HTTP, in batches, tried again while the endpoint is busy or talks nonsense.

    No error shows the key, the texts, or what the endpoint answered about them.
    """

    costs = True

    def __init__(
        self,
        endpoint: _Endpoint,
        model: str,
        dimensions: int,
        *,
        batch: tuple[int, int],
        pace: Pace,
    ) -> None:
        self.identity = f"{model}-{dimensions}"
        self.dimensions = dimensions
        self.spent = Spent()
        self._endpoint = endpoint
        self._model = model
        self._batch_max = batch
        self._pace = pace
        self._tally = Tally()
        self._free = asyncio.Semaphore(_REQUESTS)

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors, float32, shape (len(texts), dimensions).

        Raises StoreDown when the endpoint stays busy or broken, Misconfigured when it refuses the
        key or the model, Refused when it refuses the texts.
        """
        if not len(texts):
            return np.empty((0, self.dimensions), dtype=np.float32)
        texts_max, tokens_max = self._batch_max
        try:
            async with asyncio.TaskGroup() as group:
                pieces = [
                    group.create_task(self._batch(piece, about))
                    for piece, about in batches(texts, self._tally.about, texts_max, tokens_max)
                ]
        except ExceptionGroup as failed:  # the first; the others were called off
            raise failed.exceptions[0] from None
        return np.concatenate([piece.result() for piece in pieces])

    async def close(self) -> None:
        """Close the connections. Safe to call twice."""
        await self._endpoint.close()

    async def _batch(self, texts: list[str], about_tokens: int) -> Vectors:
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
                        return await self._asked(body, texts, about_tokens)
        except _TryAgain as error:
            raise StoreDown(f"The embedder does not answer: {error.reason}.") from None
        raise AssertionError("a retry ends with an answer or an error")

    async def _asked(self, body: bytes, texts: list[str], about_tokens: int) -> Vectors:
        """One request, when it is its turn."""
        loop = asyncio.get_running_loop()
        wait_s = self._pace.take(about_tokens, loop.time())
        while wait_s > 0:  # told to wait meanwhile, it waits on
            await asyncio.sleep(wait_s)
            wait_s = self._pace.held(loop.time())
        self.spent.requests += 1
        answer_bytes_max = len(texts) * self.dimensions * _ANSWER_BYTES_A_NUMBER
        try:
            answer = await self._endpoint.post(
                body, answer_bytes_max=answer_bytes_max + _ANSWER_BYTES_REST
            )
            found = self._understood(answer)
            vectors = self._vectors(found, len(texts))
        except Exception as error:
            self.spent.failed += 1
            if isinstance(error, _TryAgain) and error.wait_s:
                self._pace.hold(error.wait_s, loop.time())
            raise
        tokens = _tokens(found)
        if tokens is None:
            tokens = about_tokens
        else:
            self._tally.learn(texts, tokens)
            self._pace.correct(tokens - about_tokens)
        self.spent.texts += len(texts)
        self.spent.tokens += tokens
        return vectors

    def _understood(self, answer: bytes) -> dict[str, Any]:
        """What was answered. Nonsense comes from something between, and not twice."""
        try:
            found = orjson.loads(answer)
        except ValueError:
            raise _TryAgain("its answer is no JSON") from None
        if not isinstance(found, dict) or not isinstance(found.get("data"), list):
            raise _TryAgain("its answer is no list of embeddings")
        return found

    def _vectors(self, found: dict[str, Any], count: int) -> Vectors:
        try:
            rows = sorted(found["data"], key=lambda row: row["index"])
            if [row["index"] for row in rows] != list(range(count)):
                raise ValueError("not one embedding for each text")
            vectors = np.asarray([row["embedding"] for row in rows], dtype=np.float32)
        except (ValueError, KeyError, TypeError, OverflowError):
            raise _TryAgain("its answer is no list of embeddings") from None
        if vectors.shape != (count, self.dimensions):
            given = vectors.shape[-1]
            raise Misconfigured(
                f"The embedder gives {given} dimensions, not {self.dimensions}.",
                fix="Set embedder_dimensions to what the model gives.",
            )
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not (np.isfinite(lengths).all() and lengths.all()):
            raise _TryAgain("it gave a vector that has no direction")
        vectors /= lengths
        return vectors


def _tokens(found: dict[str, Any]) -> int | None:
    """The tokens of an answer, if it says them."""
    usage = found.get("usage")
    told = usage.get("total_tokens", usage.get("prompt_tokens")) if isinstance(usage, dict) else 0
    return told if isinstance(told, int) and told > 0 else None


def _asked_to_wait(error: Exception) -> bool | float:
    """Whether to try again, and after how many seconds if the endpoint says so: a little more, so
    that those who were told the same do not come together.
    """
    if not isinstance(error, _TryAgain):
        return False
    return error.wait_s + uniform(0, min(1.0, error.wait_s / 4)) if error.wait_s else True
