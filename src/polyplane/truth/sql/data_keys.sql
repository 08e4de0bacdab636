-- name: get
SELECT id::text, purpose, tenant_id, person, kek, wrapped
FROM polyplane.data_keys WHERE id = ANY (%(ids)s::uuid[])

-- name: of
-- Those that are alive, held against destruction until the transaction ends: what is written with
-- one can be read when it is committed. A new wrapping does not wait for it.
SELECT id::text, purpose, tenant_id, person, kek, wrapped
FROM polyplane.data_keys
WHERE purpose = %(purpose)s AND destroyed_at IS NULL
  AND (tenant_id, person) IN (SELECT * FROM unnest(%(tenants)s::text[], %(persons)s::text[]))
FOR KEY SHARE

-- name: add
INSERT INTO polyplane.data_keys (id, purpose, tenant_id, person, kek, wrapped)
SELECT id, %(purpose)s, tenant_id, person, kek, wrapped
FROM unnest(%(ids)s::uuid[], %(tenants)s::text[], %(persons)s::text[], %(keks)s::text[],
            %(wrapped)s::bytea[]) AS k (id, tenant_id, person, kek, wrapped)
ON CONFLICT (purpose, tenant_id, person) WHERE destroyed_at IS NULL DO NOTHING

-- name: is_any
SELECT EXISTS (SELECT FROM polyplane.data_keys WHERE destroyed_at IS NULL)

-- name: counts
-- Those alive by key-encryption key, and under null those that are destroyed.
SELECT kek, count(*), count(DISTINCT tenant_id), count(*) FILTER (WHERE person <> ''),
       min(wrapped_at)
FROM polyplane.data_keys WHERE purpose = 'secrets' OR destroyed_at IS NULL
GROUP BY kek ORDER BY kek NULLS LAST

-- name: left
SELECT count(*) FROM polyplane.data_keys
WHERE destroyed_at IS NULL AND kek <> %(primary)s

-- name: to_wrap
SELECT id::text, purpose, tenant_id, person, kek, wrapped
FROM polyplane.data_keys
WHERE destroyed_at IS NULL AND kek <> %(primary)s
ORDER BY kek, id LIMIT %(limit)s

-- name: rewrap
-- Not what was destroyed, or wrapped anew by another, meanwhile.
UPDATE polyplane.data_keys d
SET kek = n.kek, wrapped = n.wrapped, wrapped_at = clock_timestamp()
FROM unnest(%(ids)s::uuid[], %(old)s::bytea[], %(keks)s::text[], %(new)s::bytea[])
  AS n (id, old, kek, wrapped)
WHERE d.id = n.id AND d.wrapped = n.old

-- name: chosen
-- Those of a person, in one tenant or in all; or all of a tenant, its people's too. Held: who writes
-- with one is waited for.
SELECT id::text, destroyed_at IS NULL FROM polyplane.data_keys
WHERE purpose = 'secrets'
  AND (%(tenant)s::text IS NULL OR tenant_id = %(tenant)s)
  AND (%(person)s::text IS NULL OR person = %(person)s)
ORDER BY id
FOR UPDATE

-- name: destroy
UPDATE polyplane.data_keys
SET kek = NULL, wrapped = NULL, destroyed_at = clock_timestamp()
WHERE id = ANY (%(ids)s::uuid[]) AND destroyed_at IS NULL
RETURNING id::text
