"""What every embedder does, and what an endpoint may do to ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy as np
import orjson
import pytest
import stamina

from polyplane.errors import Misconfigured, PolyplaneError, Refused, StoreDown
from polyplane.stores.catalog import open_store
from polyplane.stores.embedding import batching, openai_compatible, wordllama_static
from polyplane.stores.protocol import Embedder
from tests.embeddings_endpoint import DIMENSIONS, Answer, Endpoint, good, tokens, vector

KEY = "sk-s3cret"
KETTLE = [0.06812647730112076, -0.06702766567468643, -0.09230039268732071]


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    """An endpoint of the test's own."""
    with Endpoint() as endpoint:
        yield endpoint


@pytest.fixture
def quick_retries() -> Iterator[None]:
    """Retries as many as ever, without the waits between them."""
    with stamina.set_testing(True, attempts=5):
        yield


@pytest.fixture(params=["wordllama", "openai", "deterministic"])
async def embedder(request: pytest.FixtureRequest) -> AsyncIterator[Embedder]:
    """Each embedder in turn."""
    if request.param == "wordllama":
        opened = await open_store("embedder", "wordllama://")
    elif request.param == "deterministic":
        opened = await open_store("embedder", "deterministic://64")
    else:
        url = request.getfixturevalue("endpoint").url
        opened = await open_store("embedder", url, api_key=KEY)
    yield opened
    await opened.close()


class TestEveryEmbedder:
    async def test_vectors_are_of_unit_length(self, embedder: Embedder) -> None:
        texts = ["the kettle is broken", "no hot water", "", " ", "\U0001f680" * 50, "x" * 50_000]
        vectors = await embedder.embed(texts)
        assert (vectors.shape, vectors.dtype) == ((6, embedder.dimensions), np.float32)
        assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(6), abs=1e-5)

    async def test_a_text_alone_is_the_text_among_others(self, embedder: Embedder) -> None:
        texts = [f"note {i} " + "about the kettle " * (i % 40) for i in range(700)]
        vectors = await embedder.embed(texts)
        backwards = await embedder.embed(texts[::-1])
        assert np.array_equal(vectors, backwards[::-1])
        for i in (0, 39, 699):
            assert np.array_equal((await embedder.embed([texts[i]]))[0], vectors[i])

    async def test_no_texts_no_vectors(self, embedder: Embedder) -> None:
        assert (await embedder.embed([])).shape == (0, embedder.dimensions)

    async def test_its_identity_says_what_it_is(self, embedder: Embedder) -> None:
        assert embedder.identity.endswith(f"-{embedder.dimensions}")

    async def test_many_callers_at_once(self, embedder: Embedder) -> None:
        texts = [f"note {i}" for i in range(40)]
        alone = await embedder.embed(texts)
        found = await asyncio.gather(*(embedder.embed([text]) for text in texts))
        assert np.array_equal(np.concatenate(found), alone)

    async def test_close_twice(self, embedder: Embedder) -> None:
        await embedder.close()
        await embedder.close()


async def test_wordllama_finds_what_is_meant() -> None:
    embedder = await wordllama_static.connect("wordllama://")
    try:
        notes = ["Dogs are loyal animals", "The hospital treats patients", "Gzip shrinks files"]
        queries = ["my puppy barks", "doctor prescribes medicine", "quick compression"]
        found = await embedder.embed(queries) @ (await embedder.embed(notes)).T
        assert found.argmax(axis=1).tolist() == [0, 1, 2]
    finally:
        await embedder.close()


async def test_the_deterministic_one_is_the_same_everywhere() -> None:
    embedder = await open_store("embedder", "deterministic://100")
    same, other, near = await embedder.embed(["the kettle", "a door", "the old kettle"])
    assert embedder.identity == "deterministic-1-100"
    assert same[:3].tolist() == KETTLE
    assert same @ near > 0.6 > 0.3 > abs(same @ other)


class TestEndpoint:
    @pytest.fixture
    async def remote(self, endpoint: Endpoint) -> AsyncIterator[Embedder]:
        """Our side of the endpoint."""
        remote = await openai_compatible.connect(endpoint.url, api_key=KEY, timeout_s=10)
        yield remote
        await remote.close()

    async def test_the_request_is_openais(self, endpoint: Endpoint, remote: Embedder) -> None:
        vectors = await remote.embed(["a", ""])
        ((path, headers, body),) = endpoint.requests
        assert path == "/v1/embeddings"
        assert headers["Authorization"] == f"Bearer {KEY}"
        assert body == {
            "model": "tiny",
            "input": ["a", " "],
            "dimensions": DIMENSIONS,
            "encoding_format": "float",
        }
        wanted = np.asarray(vector("a"))
        assert vectors[0] == pytest.approx(wanted / np.linalg.norm(wanted), abs=1e-6)

    async def test_batches_are_bounded(self, endpoint: Endpoint, remote: Embedder) -> None:
        await remote.embed(["short"] * 300 + ["long" * 30_000] * 3)
        sizes = sorted(len(body["input"]) for _, _, body in endpoint.requests)
        assert sum(sizes) == 303
        assert max(sizes) <= openai_compatible.BATCH_TEXTS
        longest = max(sum(map(len, body["input"])) for _, _, body in endpoint.requests)
        assert longest <= openai_compatible.BATCH_TOKENS * batching.BYTES_A_TOKEN

    @pytest.mark.parametrize("status", [429, 500, 503])
    async def test_it_tries_again(
        self, endpoint: Endpoint, remote: Embedder, status: int, quick_retries: None
    ) -> None:
        def fails_twice(request: dict[str, Any]) -> Answer:
            busy = len(endpoint.requests) <= 2
            return (status, {"Retry-After": "0"}, b"busy") if busy else good(request)

        endpoint.answer = fails_twice
        assert (await remote.embed(["a"])).shape == (1, DIMENSIONS)
        assert len(endpoint.requests) == 3

    async def test_it_waits_as_told(self, endpoint: Endpoint, remote: Embedder) -> None:
        def busy_at_first(request: dict[str, Any]) -> Answer:
            return good(request) if endpoint.requests[1:] else (429, {"Retry-After": "0.5"}, b"")

        endpoint.answer = busy_at_first
        started = asyncio.get_running_loop().time()
        await remote.embed(["a"])
        assert 0.5 <= asyncio.get_running_loop().time() - started < 10

    @pytest.mark.parametrize(
        ("answer", "error", "requests"),
        [
            ((429, {}, b"busy"), StoreDown, 5),
            ((500, {}, b"broken"), StoreDown, 5),
            ((401, {}, KEY.encode()), Misconfigured, 1),
            ((404, {}, b"no such model"), Misconfigured, 1),
            ((400, {}, b"too many tokens"), Refused, 1),
            ((302, {"Location": "http://127.0.0.1:1/"}, b""), Refused, 1),
            ((200, {}, b"not json"), StoreDown, 5),
            ((200, {}, b"[]"), StoreDown, 5),
            ((200, {}, b'{"data": []}'), StoreDown, 5),
            ((200, {}, b'{"data": [{"index": 0, "embedding": [1.0]}]}'), Misconfigured, 1),
            ((200, {}, b'{"data": [{"index": 0, "embedding": ["a"]}]}'), StoreDown, 5),
            (
                (200, {}, orjson.dumps({"data": [{"index": 0, "embedding": [0.0] * DIMENSIONS}]})),
                StoreDown,
                5,
            ),
            ((200, {}, b" " * (2 << 20)), StoreDown, 1),
            ((200, {"Content-Length": "99"}, b'{"data": '), StoreDown, 5),
            ((0, {}, b""), StoreDown, 5),
        ],
        ids=str,
    )
    async def test_a_bad_answer_says_what_is_wrong(
        self,
        endpoint: Endpoint,
        remote: Embedder,
        answer: Answer,
        error: type[PolyplaneError],
        requests: int,
        quick_retries: None,
    ) -> None:
        endpoint.answer = lambda _: answer
        with pytest.raises(error) as failed:
            await remote.embed(["a private text"])
        assert len(endpoint.requests) == requests
        for secret in (KEY, "private"):
            assert secret not in str(failed.value)
            assert secret not in repr(failed.value.__cause__)

    async def test_what_is_in_no_order_is_put_in_order(
        self, endpoint: Endpoint, remote: Embedder
    ) -> None:
        texts = [f"text {n}" for n in range(20)]
        found = await remote.embed(texts)
        for text, embedding in zip(texts, found, strict=True):
            wanted = np.asarray(vector(text))
            assert embedding == pytest.approx(wanted / np.linalg.norm(wanted), abs=1e-6)

    async def test_what_is_spent_is_what_the_endpoint_says(
        self, endpoint: Endpoint, remote: Embedder, quick_retries: None
    ) -> None:
        def fails_once(request: dict[str, Any]) -> Answer:
            return good(request) if endpoint.requests[1:] else (500, {}, b"")

        endpoint.answer = fails_once
        texts = ["one two three", "four"] * 100
        await remote.embed(texts)
        assert remote.costs
        spent = remote.spent
        assert (spent.requests, spent.failed, spent.texts) == (3, 1, 200)
        assert spent.tokens == sum(map(tokens, texts))

    async def test_one_refusal_among_many_requests(
        self, endpoint: Endpoint, remote: Embedder
    ) -> None:
        def refuses_one(request: dict[str, Any]) -> Answer:
            return (400, {}, b"") if "bad" in request["input"] else good(request)

        endpoint.answer = refuses_one
        with pytest.raises(Refused):
            await remote.embed(["good"] * 200 + ["bad"] + ["good"] * 200)

    async def test_nobody_there(self, unused_tcp_port: int, quick_retries: None) -> None:
        url = f"http://127.0.0.1:{unused_tcp_port}/v1?model=tiny&dimensions=3"
        remote = await openai_compatible.connect(url, api_key=KEY)
        with pytest.raises(StoreDown):
            await remote.embed(["a"])
        await remote.close()

    async def test_a_hanging_endpoint(self, unused_tcp_port: int, quick_retries: None) -> None:
        hanging = await asyncio.start_server(lambda *_: None, "127.0.0.1", unused_tcp_port)
        async with hanging:
            url = f"http://127.0.0.1:{unused_tcp_port}/v1?model=tiny&dimensions=3"
            remote = await openai_compatible.connect(url, timeout_s=0.1)
            with pytest.raises(StoreDown):
                await remote.embed(["a"])
            await remote.close()


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("https://host/v1", {}),
        ("https://host/v1?model=tiny", {}),
        ("https://host/v1?model=tiny&dimensions=0", {}),
        ("https://host/v1?model=tiny&dimensions=many", {}),
        ("https://host/v1?model=tiny&dimensions=3&color=red", {}),
        ("https://ada:s3cret@host/v1?model=tiny&dimensions=3", {}),
        ("https://host/v1?model=tiny&dimensions=3", {"color": "red"}),
        ("wordllama://", {"color": "red"}),
        ("deterministic://", {}),
        ("deterministic://many", {}),
        ("deterministic://1", {}),
        ("deterministic://64", {"color": "red"}),
    ],
)
async def test_what_cannot_work(url: str, options: dict[str, Any]) -> None:
    with pytest.raises(Misconfigured) as refused:
        await open_store("embedder", url, **options)
    assert "s3cret" not in str(refused.value)
