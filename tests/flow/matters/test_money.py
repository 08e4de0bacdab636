"""Double entry: exact, balanced, never changed; whoever writes, an application or psql."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from httpx import AsyncClient
from hypothesis import given, settings, strategies as st

import polyplane as pp
from polyplane.domains.assistant.matters import currencies, money
from polyplane.domains.assistant.matters.models_money import Account, Transaction
from polyplane.domains.assistant.matters.money import Entry
from tests.flow.matters.conftest import ClientOf, person


async def opened(client: AsyncClient, name: str, currency: str = "EUR", **more: Any) -> str:
    """The id of a new account."""
    fields = {"name": name, "kind": "asset", "currency": currency, **more}
    answer = await client.post("accounts", json=fields)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def entries(*pairs: tuple[str, Any]) -> list[dict[str, Any]]:
    """As the API takes them."""
    return [{"account_id": account, "amount": amount} for account, amount in pairs]


async def balance(client: AsyncClient, account: str, **asked: str) -> str:
    """What the API says is in an account."""
    return str((await client.get(f"accounts/{account}/balance", params=asked)).json()["balance"])


async def test_what_is_posted_balances_to_the_cent(client_as: ClientOf, ada: pp.Caller) -> None:
    client = client_as(ada)
    cash, food = await opened(client, "cash"), await opened(client, "food")
    yen = await opened(client, "yen", "JPY")
    for amount in ("0.10", "0.20", "12345678901234567.89"):
        body: dict[str, Any] = {"entries": entries((food, amount), (cash, f"-{amount}"))}
        body |= {"posted_on": "2026-01-01", "memo": "bread"}
        answer = await client.post("transactions", json=body)
        assert answer.status_code == 201, answer.text
        assert answer.json()["entries"][0]["amount"] == amount
    assert await balance(client, food) == "12345678901234568.19"
    assert await balance(client, cash) == "-12345678901234568.19"
    assert await balance(client, food, on="2025-12-31") == "0.00"
    assert await balance(client, yen) == "0"
    for wrong, field in (
        (entries((food, "1.00"), (cash, "-0.99")), "entries"),
        (entries((food, 1.5), (cash, -1.5)), "entries.0.amount"),
        (entries((food, "1.005"), (cash, "-1.005")), "entries.0.amount"),
        (entries((yen, "1"), (cash, "-1.00")), "entries"),
        (entries((yen, "1.5"), (yen, "-1.5")), "entries.0.amount"),
        (entries((food, "1.00")), "entries"),
        (entries((food, "1.00"), (str(uuid4()), "-1.00")), "entries.1.account_id"),
    ):
        answer = await client.post("transactions", json={"entries": wrong})
        assert (answer.status_code, answer.json()["field"]) == (422, field), answer.text


async def test_a_mistake_is_taken_back_once(client_as: ClientOf, ada: pp.Caller) -> None:
    client = client_as(ada)
    cash, food = await opened(client, "cash"), await opened(client, "food")
    body = {"entries": entries((food, "5.00"), (cash, "-5.00"))}
    posted = (await client.post("transactions", json=body)).json()
    back = await client.post(f"transactions/{posted['id']}/reverse", json={"memo": "not mine"})
    assert back.status_code == 201, back.text
    assert back.json()["reverses_id"] == posted["id"]
    assert await balance(client, cash) == "0.00"
    again = await client.post(f"transactions/{posted['id']}/reverse", json={})
    assert again.status_code == 409
    assert (
        await client.post(f"transactions/{back.json()['id']}/reverse", json={})
    ).status_code == 422
    listed = (await client.get("transactions", params={"account_id": cash})).json()["items"]
    assert [it["id"] for it in listed] == [back.json()["id"], posted["id"]]
    assert (await client.patch(f"accounts/{food}", json={"closed": True})).status_code == 200
    answer = await client.post("transactions", json=body)
    assert answer.json()["detail"] == "The account is closed."
    assert (await client.delete(f"accounts/{food}")).status_code == 409


async def test_an_import_comes_in_once(client_as: ClientOf, ada: pp.Caller) -> None:
    client = client_as(ada)
    cash, food = await opened(client, "cash"), await opened(client, "food")
    body = {"entries": entries((food, "3.00"), (cash, "-3.00")), "external_id": "bank-1"}
    answers = await asyncio.gather(*(client.post("transactions", json=body) for _ in range(5)))
    assert sorted(it.status_code for it in answers) == [200, 200, 200, 200, 201]
    assert len({it.json()["id"] for it in answers}) == 1
    assert await balance(client, food) == "3.00"
    other = body | {"entries": entries((food, "4.00"), (cash, "-4.00"))}
    assert (await client.post("transactions", json=other)).status_code == 409
    # An account of one's own may have the same name, and a transaction the same id.
    theirs = client_as(person(ada.tenant))
    mine, yours = await opened(theirs, "cash"), await opened(theirs, "food")
    body["entries"] = entries((mine, "1.00"), (yours, "-1.00"))
    assert (await theirs.post("transactions", json=body)).status_code == 201


async def test_nobody_posts_to_or_sees_anothers_accounts(
    client_as: ClientOf, ada: pp.Caller, bob: pp.Caller, plane: pp.Plane
) -> None:
    cash = await opened(client_as(ada), "cash")
    other = client_as(bob)
    own = await opened(other, "own")
    body = {"entries": entries((own, "1.00"), (cash, "-1.00"))}
    answer = await other.post("transactions", json=body)
    assert (answer.status_code, answer.json()["field"]) == (422, "entries.1.account_id")
    assert (await other.get(f"accounts/{cash}/balance")).status_code == 404
    stolen = {"name": "x", "kind": "asset", "currency": "EUR", "owner_id": str(ada.user)}
    assert (await other.post("accounts", json=stolen)).status_code == 403
    async with plane.acting(bob).read() as session:
        assert [it.account_id for it in await money.balances(session, bob.tenant)] == [UUID(own)]
    # A program of the tenant sees all, and still mixes no owners.
    program = pp.Caller("service:import", ada.tenant)
    with pytest.raises(pp.Refused):
        async with plane.acting(program).write() as tx:
            both = [Entry(UUID(own), Decimal(1)), Entry(UUID(cash), Decimal(-1))]
            await money.post(tx, ada.user, both)


POST = """
    WITH t AS (
      INSERT INTO assistant.transactions (tenant_id, owner_id, postings)
      VALUES (%(tenant)s, %(owner)s, %(said)s) RETURNING id)
    INSERT INTO assistant.postings
      (tenant_id, owner_id, transaction_id, number, account_id, currency, amount)
    SELECT %(tenant)s, %(owner)s, t.id, n, a::uuid, 'EUR', m::numeric
    FROM t, unnest(%(accounts)s::text[], %(amounts)s::text[]) WITH ORDINALITY AS p (a, m, n)
    RETURNING transaction_id
"""


async def test_psql_breaks_no_rule_either(
    plane: pp.Plane, client_as: ClientOf, ada: pp.Caller, bob: pp.Caller
) -> None:
    client = client_as(ada)
    accounts = [await opened(client, "cash"), await opened(client, "food")]
    theirs = await opened(client_as(bob), "theirs")
    named = {"tenant": ada.tenant, "owner": ada.user, "accounts": accounts, "said": 2}
    url = plane.settings.url("database_url")
    assert url is not None

    async def refused(query: str, **values: Any) -> str:
        with pytest.raises(psycopg.errors.IntegrityError) as caught:
            async with await psycopg.AsyncConnection.connect(url) as connection:
                await connection.execute(query.encode(), {**named, **values})
        return caught.value.diag.constraint_name or ""

    async with await psycopg.AsyncConnection.connect(url) as connection:
        good = await connection.execute(POST.encode(), {**named, "amounts": ["2.00", "-2.00"]})
        posted = (await good.fetchone() or [None])[0]
    assert await balance(client, accounts[0]) == "2.00"
    balances = "balance_transactions"
    assert await refused(POST, amounts=["2.00", "-2.01"]) == balances
    assert await refused(POST, amounts=["2.00", "-2.00"], said=3) == balances
    alone = "INSERT INTO assistant.transactions (tenant_id, postings) VALUES (%(tenant)s, 2)"
    assert await refused(alone) == balances
    more = """
        INSERT INTO assistant.postings
          (tenant_id, owner_id, transaction_id, number, account_id, currency, amount)
        SELECT %(tenant)s, %(owner)s, %(posted)s, n, %(account)s, 'EUR', m
        FROM (VALUES (3, 1.0), (4, -1.0)) AS p (n, m)
    """
    assert await refused(more, posted=posted, account=accounts[0]) == balances
    assert await refused(POST, amounts=["2.001", "-2.001"]) == "minor_digits_postings"
    assert (
        await refused(POST, amounts=["2.00", "-2.00"], accounts=[accounts[0], theirs])
        == "owner_postings"
    )
    for table in ("transactions", "postings"):
        for query in (
            f"UPDATE assistant.{table} SET created_at = now()",
            f"DELETE FROM assistant.{table}",
            f"TRUNCATE assistant.{table} CASCADE",
        ):
            assert (await refused(query)).startswith("immutable_"), query
    assert await refused("UPDATE assistant.accounts SET currency = 'USD'") == "fixed_accounts"
    async with await psycopg.AsyncConnection.connect(url) as connection:
        for digits, known in currencies.DIGITS.items():
            for currency in known:
                found = await connection.execute("SELECT assistant.minor_digits(%s)", [currency])
                assert await found.fetchone() == (digits,)


@settings(max_examples=4)
@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(1, 10**12)),
        min_size=1,
        max_size=8,
    )
)
async def test_balances_are_the_sums_however_they_come(
    plane: pp.Plane, moves: list[tuple[int, int, int]]
) -> None:
    """Of transactions that are posted at the same time, each account has its sum."""
    caller = person(f"t{uuid4().hex[:12]}")
    rows = [
        Account(
            tenant_id=caller.tenant, owner_id=caller.user, name=f"{n}", kind="asset", currency="EUR"
        )
        for n in range(4)
    ]
    async with plane.acting(caller).write() as tx:
        tx.add_all(rows)

    async def post(source: int, target: int, cents: int) -> Transaction:
        amount = Decimal(cents) / 100
        both = [Entry(rows[target].id, amount), Entry(rows[source].id, -amount)]
        async with plane.acting(caller).write() as tx:
            return (await money.post(tx, caller.user, both)).transaction

    await asyncio.gather(*(post(*move) for move in moves))
    async with plane.acting(caller).read() as session:
        found = {it.account_id: it for it in await money.balances(session, caller.tenant)}
    for number, row in enumerate(rows):
        cents = sum(it[2] for it in moves if it[1] == number)
        cents -= sum(it[2] for it in moves if it[0] == number)
        assert Decimal(found[row.id].balance) == Decimal(cents) / 100
    assert sum(it.postings for it in found.values()) == 2 * len(moves)
