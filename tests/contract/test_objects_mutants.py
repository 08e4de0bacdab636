"""The contract of object stores notices an adapter that is broken on purpose."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from _pytest.outcomes import Failed

from polyplane.embedded import Engines
from polyplane.errors import PolyplaneError, ScopeViolated
from polyplane.model.scope import Scope
from polyplane.stores.objects import s3, s3_bucket
from polyplane.stores.objects.s3 import S3Objects
from tests.contract.sampling import sampled
from tests.contract.test_objects_s3 import TestS3 as Contract

Patch = pytest.MonkeyPatch
Breakage = Callable[[Patch], None]


def _verb(name: str, change: Callable[..., Any]) -> Breakage:
    """A verb replaced by `change`, which is given the right one first."""

    def break_it(patch: Patch) -> None:
        right = getattr(S3Objects, name)
        patch.setattr(S3Objects, name, lambda self, *a, **k: change(right, self, *a, **k))

    return break_it


async def _no_versions(self: Any) -> None:
    await self._in_thread(lambda: s3_bucket._make(self._client, self.bucket))


def _not_versioned(patch: Patch) -> None:
    patch.setattr(S3Objects, "prepare", _no_versions)


def _rules_of_others_are_lost(patch: Patch) -> None:
    patch.setattr(s3_bucket, "merged", lambda held, wanted: wanted)
    patch.setattr(s3_bucket, "same", lambda held, wanted: False)


async def _latest(right: Any, self: Any, scope: Any, key: str, **_: Any) -> Any:
    return await right(self, scope, key)


async def _latest_is_read(right: Any, self: Any, scope: Any, key: str, **how: Any) -> Any:
    async for piece in right(self, scope, key, **(how | {"version": None})):
        yield piece


async def _one_byte_more(right: Any, self: Any, scope: Any, key: str, **how: Any) -> Any:
    end = how.get("end")
    async for piece in right(self, scope, key, **(how | ({"end": end + 1} if end else {}))):
        yield piece


async def _all_is_read(right: Any, self: Any, scope: Any, key: str, **how: Any) -> Any:
    async for piece in right(self, scope, key, version=how.get("version")):
        yield piece


async def _typeless(right: Any, self: Any, *given: Any, content_type: str) -> Any:
    return await right(self, *given, content_type="application/octet-stream")


async def _first_part_only(right: Any, self: Any, key: str, upload: str, parts: Any) -> None:
    await right(self, key, upload, parts[:1])


async def _nothing(right: Any, self: Any, *given: Any, **more: Any) -> None:
    return None


async def _hidden(right: Any, self: Any, key: str, *, version: str) -> None:
    await self._call(self._client.delete_object, Key=key)


async def _without_markers(right: Any, self: Any, **how: Any) -> Any:
    async for page in right(self, **how):
        yield [it for it in page if not it.gone]


async def _one_part(right: Any, self: Any, key: str, upload: str) -> Any:
    return (await right(self, key, upload))[:1]


def _long_url(right: Any, self: Any, method: str, expires_s: int, given: Any) -> Any:
    return right(self, method, 900, given)


def _any_size(right: Any, self: Any, method: str, expires_s: int, given: Any) -> Any:
    kept = {name: it for name, it in given.items() if name != "ContentLength"}
    return right(self, method, expires_s, kept)


def _one_page(patch: Patch) -> None:
    patch.setattr(s3, "PAGE", 10)
    right = S3Objects.every

    async def broken(self: S3Objects, **how: Any) -> Any:
        async for page in right(self, **how):
            yield page
            return

    patch.setattr(S3Objects, "every", broken)


def _key_not_checked(patch: Patch) -> None:
    patch.setattr(Scope, "check_key", lambda *_: None)


def _tenants_that_begin_alike(patch: Patch) -> None:
    def broken(self: Scope, key: str) -> None:
        if not key.startswith(str(self.tenant)):
            raise ScopeViolated(key)

    patch.setattr(Scope, "check_key", broken)


def _read_for_everybody(right: Any, self: Any, _scope: Any, key: str, **how: Any) -> Any:
    return right(self, Scope.everything, key, **how)


MUTANTS: dict[str, tuple[Breakage, str]] = {
    "key not checked": (_key_not_checked, "test_a_scope_opens_its_own_tenant_only"),
    "tenants alike": (_tenants_that_begin_alike, "test_a_scope_opens_its_own_tenant_only"),
    **{
        f"{verb} for everybody": (
            _verb(verb, _read_for_everybody),
            "test_a_scope_opens_its_own_tenant_only",
        )
        for verb in ("head", "read", "url_to_get", "url_to_put")
    },
    "no versions": (_not_versioned, "test_a_bucket_keeps_versions_and_has_its_rules"),
    "rules of others": (
        _rules_of_others_are_lost,
        "test_preparing_again_changes_nothing_and_leaves_rules_of_others",
    ),
    "head of the latest": (_verb("head", _latest), "test_each_version_can_be_read"),
    "read of the latest": (_verb("read", _latest_is_read), "test_each_version_can_be_read"),
    "one byte more": (_verb("read", _one_byte_more), "test_a_range_is_read_and_no_more"),
    "no range": (_verb("read", _all_is_read), "test_a_range_is_read_and_no_more"),
    "no type": (_verb("put", _typeless), "test_a_small_object_is_put_whole"),
    "no type of parts": (_verb("begin", _typeless), "test_parts_become_one_object"),
    "first part only": (_verb("complete", _first_part_only), "test_parts_become_one_object"),
    "one part listed": (_verb("parts", _one_part), "test_parts_become_one_object"),
    "no abort": (_verb("abort", _nothing), "test_an_aborted_upload_is_gone"),
    "hidden only": (_verb("delete", _hidden), "test_one_version_is_deleted_for_good"),
    "no markers": (
        _verb("every", _without_markers),
        "test_every_version_is_listed_in_the_order_of_keys",
    ),
    "one page": (_one_page, "test_every_version_is_listed_in_the_order_of_keys"),
    "a long URL": (_verb("_signed", _long_url), "test_a_url_ends"),
    "any size": (_verb("_signed", _any_size), "test_a_url_takes_one_object_of_its_size_and_type"),
}


@pytest.mark.parametrize("name", sampled([*MUTANTS], [*MUTANTS]))
async def test_a_broken_adapter_is_noticed(
    name: str, engines: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    breakage, test = MUTANTS[name]
    breakage(monkeypatch)
    contract = Contract()
    contract.url = engines.urls["s3"]
    store = await contract.open(f"m-{uuid4().hex[:20]}")
    try:
        with pytest.raises((AssertionError, Failed, PolyplaneError)):
            await store.prepare()
            await getattr(contract, test)(store)
    finally:
        await store.close()
