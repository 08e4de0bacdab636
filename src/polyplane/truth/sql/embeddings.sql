-- Kept embeddings and what was spent on others; every statement runs in one transaction.

-- name: key
SELECT key FROM polyplane.embedding_key

-- name: find
SELECT e.mac, e.vector, e.used_at < clock_timestamp() - interval '1 day'
FROM polyplane.embedding e WHERE e.mac = ANY (%(macs)s::bytea[])

-- name: use
-- In one order, so that two processes never wait for each other. Who is being touched is used anyway.
UPDATE polyplane.embedding e SET used_at = clock_timestamp()
FROM (SELECT mac FROM polyplane.embedding WHERE mac = ANY (%(macs)s::bytea[])
      ORDER BY mac FOR UPDATE SKIP LOCKED) mine
WHERE e.mac = mine.mac

-- name: keep
INSERT INTO polyplane.embedding AS e (mac, tenant_id, vector)
SELECT n.mac, n.tenant_id, n.vector
FROM unnest(%(macs)s::bytea[], %(tenants)s::text[], %(vectors)s::bytea[]) AS n (mac, tenant_id, vector)
ORDER BY n.mac
ON CONFLICT (mac) DO UPDATE SET vector = excluded.vector, used_at = excluded.used_at

-- name: note
INSERT INTO polyplane.embedding_usage AS u
  (day, model, requests, failed, texts, kept, tokens, cost)
VALUES ((clock_timestamp() AT TIME ZONE 'UTC')::date, %(model)s::text, %(requests)s::bigint,
        %(failed)s::bigint, %(texts)s::bigint, %(kept)s::bigint, %(tokens)s::bigint,
        %(cost)s::numeric)
ON CONFLICT (day, model) DO UPDATE SET
  requests = u.requests + excluded.requests, failed = u.failed + excluded.failed,
  texts = u.texts + excluded.texts, kept = u.kept + excluded.kept,
  tokens = u.tokens + excluded.tokens, cost = u.cost + excluded.cost

-- name: usage
SELECT day, model, requests, failed, texts, kept, tokens, cost FROM polyplane.embedding_usage
WHERE day > (clock_timestamp() AT TIME ZONE 'UTC')::date - %(days)s::int
ORDER BY day DESC, model

-- name: models
SELECT DISTINCT model FROM polyplane.embedding_usage

-- name: expire
WITH gone AS (
  DELETE FROM polyplane.embedding WHERE mac = ANY (ARRAY(
    SELECT mac FROM polyplane.embedding
    WHERE used_at < clock_timestamp() - make_interval(days => %(days)s::int)
    ORDER BY used_at LIMIT %(most)s::int FOR UPDATE SKIP LOCKED
  )) RETURNING 1
)
SELECT count(*) FROM gone

-- name: bound
-- What was not used for the longest goes, as far as there are more than `rows`.
WITH much AS (
  SELECT greatest(0, count(*) - %(rows)s::bigint) AS over FROM polyplane.embedding
), gone AS (
  DELETE FROM polyplane.embedding WHERE mac = ANY (ARRAY(
    SELECT mac FROM polyplane.embedding ORDER BY used_at
    LIMIT (SELECT least(over, %(most)s::bigint) FROM much) FOR UPDATE SKIP LOCKED
  )) RETURNING 1
)
SELECT count(*) FROM gone

-- name: forget_tenant
WITH gone AS (
  DELETE FROM polyplane.embedding WHERE mac = ANY (ARRAY(
    SELECT mac FROM polyplane.embedding WHERE tenant_id = %(tenant)s::text LIMIT %(most)s::int
  )) RETURNING 1
)
SELECT count(*) FROM gone

-- name: forget
WITH gone AS (
  DELETE FROM polyplane.embedding WHERE mac = ANY (%(macs)s::bytea[]) RETURNING 1
)
SELECT count(*) FROM gone

-- name: forget_all
WITH gone AS (
  DELETE FROM polyplane.embedding WHERE mac = ANY (ARRAY(
    SELECT mac FROM polyplane.embedding LIMIT %(most)s::int
  )) RETURNING 1
)
SELECT count(*) FROM gone
