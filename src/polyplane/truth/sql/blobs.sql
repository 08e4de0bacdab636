-- name: new_id
SELECT polyplane.new_key()

-- name: reserve
-- No row: its idempotency key is taken.
INSERT INTO polyplane.blob (id, tenant_id, name, content_type, bucket, key, idempotency_key, expires_at)
VALUES (%(id)s, %(tenant)s, %(name)s, %(content_type)s, %(bucket)s, %(key)s, %(idempotency_key)s,
        clock_timestamp() + make_interval(secs => %(expires_s)s))
ON CONFLICT DO NOTHING
RETURNING id

-- name: get
SELECT id, tenant_id, name, content_type, state, bucket, key, created_at, size,
       encode(sha256, 'hex'), etag, version, committed_at, expires_at, fault
FROM polyplane.blob WHERE id = %(id)s AND tenant_id = %(tenant)s

-- name: by_idempotency_key
SELECT id, tenant_id, name, content_type, state, bucket, key, created_at, size,
       encode(sha256, 'hex'), etag, version, committed_at, expires_at, fault
FROM polyplane.blob
WHERE tenant_id = %(tenant)s AND idempotency_key = %(idempotency_key)s AND state <> 'deleted'

-- name: page
-- Newest first: ids are in the order of time where the server makes them so.
SELECT id, tenant_id, name, content_type, state, bucket, key, created_at, size,
       encode(sha256, 'hex'), etag, version, committed_at, expires_at, fault
FROM polyplane.blob
WHERE tenant_id = %(tenant)s AND state = ANY (%(states)s::text[])
  AND (%(after)s::uuid IS NULL OR id < %(after)s::uuid)
ORDER BY id DESC LIMIT %(limit)s

-- name: begun
UPDATE polyplane.blob SET upload = %(upload)s WHERE id = %(id)s AND state = 'pending' RETURNING id

-- name: upload
SELECT upload FROM polyplane.blob WHERE id = %(id)s AND state = 'pending'

-- name: part
-- No row: it is given up, or somebody else has sent another content as this part.
INSERT INTO polyplane.blob_part AS p (blob, number, size, etag, prefix_sha256)
SELECT id, %(number)s, %(size)s, %(etag)s, decode(%(prefix_sha256)s, 'hex')
FROM polyplane.blob WHERE id = %(id)s AND state = 'pending' AND upload = %(upload)s
ON CONFLICT (blob, number) DO UPDATE
SET size = excluded.size, etag = excluded.etag WHERE p.prefix_sha256 = excluded.prefix_sha256
RETURNING number

-- name: parts
SELECT number, size, etag, encode(prefix_sha256, 'hex') FROM polyplane.blob_part
WHERE blob = %(id)s ORDER BY number

-- name: one_at_a_time
-- Of uploads of one content one keeps its object. Not for long: until the transaction ends.
SELECT pg_advisory_xact_lock(hashtextextended('polyplane blob ' || %(tenant)s || %(sha256)s, 0))

-- name: commit
-- Where there is the same content already, the row refers to that object, and its own is to go. The
-- other row is held meanwhile: if it were deleted now, its object could be collected.
WITH same AS (
  SELECT key, etag, version FROM polyplane.blob
  WHERE tenant_id = %(tenant)s AND sha256 = decode(%(sha256)s, 'hex') AND size = %(size)s
    AND state = 'committed' AND fault = '' AND bucket = %(bucket)s AND id <> %(id)s
  ORDER BY committed_at LIMIT 1 FOR SHARE
),
parts AS (DELETE FROM polyplane.blob_part WHERE blob = %(id)s)
UPDATE polyplane.blob b
SET state = 'committed', size = %(size)s, sha256 = decode(%(sha256)s, 'hex'),
    key = coalesce((SELECT key FROM same), b.key),
    etag = coalesce((SELECT etag FROM same), %(etag)s),
    version = coalesce((SELECT version FROM same), %(version)s),
    committed_at = clock_timestamp(), expires_at = NULL, upload = NULL
WHERE id = %(id)s AND tenant_id = %(tenant)s AND state = 'pending'
RETURNING id, tenant_id, name, content_type, state, bucket, key, created_at, size,
          encode(sha256, 'hex'), etag, version, committed_at, expires_at, fault

-- name: give_up
WITH parts AS (DELETE FROM polyplane.blob_part WHERE blob = %(id)s)
UPDATE polyplane.blob
SET state = 'deleted', deleted_at = clock_timestamp(), upload = NULL
WHERE id = %(id)s AND state = 'pending'
RETURNING id

-- name: delete
UPDATE polyplane.blob SET state = 'deleted', deleted_at = clock_timestamp()
WHERE id = %(id)s AND tenant_id = %(tenant)s AND state = 'committed'
RETURNING id

-- name: expired
SELECT id, tenant_id, key, upload FROM polyplane.blob
WHERE state = 'pending' AND bucket = %(bucket)s AND expires_at < clock_timestamp()
ORDER BY expires_at LIMIT %(limit)s

-- name: count_expired
SELECT count(*) FROM polyplane.blob
WHERE state = 'pending' AND bucket = %(bucket)s AND expires_at < clock_timestamp()

-- name: deleted
SELECT id, tenant_id, key FROM polyplane.blob
WHERE state = 'deleted' AND bucket = %(bucket)s
  AND deleted_at <= clock_timestamp() - make_interval(secs => %(grace_s)s)
ORDER BY deleted_at LIMIT %(limit)s

-- name: forget
DELETE FROM polyplane.blob WHERE id = ANY (%(ids)s::uuid[]) AND state = 'deleted'

-- name: objects
-- The committed blobs behind a key, in the order of their objects: so both sides can be merged.
SELECT key, version, etag, size, encode(sha256, 'hex'), id, fault FROM polyplane.blob
WHERE state = 'committed' AND bucket = %(bucket)s
  AND (key, id) > (%(after)s, %(after_id)s::uuid)
ORDER BY key, id LIMIT %(limit)s

-- name: rows_of
-- All that truth says about objects of these keys, and about blobs of these ids.
SELECT id, key, version, state FROM polyplane.blob
WHERE bucket = %(bucket)s AND (key = ANY (%(keys)s::text[]) OR id = ANY (%(ids)s::uuid[]))

-- name: pending_uploads
SELECT upload FROM polyplane.blob WHERE state = 'pending' AND upload = ANY (%(uploads)s::text[])

-- name: mark
UPDATE polyplane.blob SET fault = %(fault)s
WHERE id = ANY (%(ids)s::uuid[]) AND state = 'committed' AND fault <> %(fault)s
RETURNING id

-- name: held_contents
-- Which of these contents a committed blob has already.
SELECT DISTINCT encode(sha256, 'hex') FROM polyplane.blob
WHERE tenant_id = %(tenant)s AND state = 'committed' AND fault = '' AND bucket = %(bucket)s
  AND sha256 = ANY (SELECT decode(it, 'hex') FROM unnest(%(digests)s::text[]) AS it)

-- name: reserve_many
-- In the order in which they are given.
WITH given AS MATERIALIZED (
  SELECT polyplane.new_key() AS id, g.*
  FROM unnest(%(names)s::text[], %(types)s::text[]) WITH ORDINALITY AS g (name, content_type, n)
), made AS (
  INSERT INTO polyplane.blob (id, tenant_id, name, content_type, bucket, key, expires_at)
  SELECT id, %(tenant)s, name, content_type, %(bucket)s, %(tenant)s || '/' || id,
         clock_timestamp() + make_interval(secs => %(expires_s)s)
  FROM given
)
SELECT id FROM given ORDER BY n

-- name: many_at_a_time
-- As one_at_a_time; in the order of their digests, so that no two wait for each other.
SELECT pg_advisory_xact_lock(hashtextextended('polyplane blob ' || %(tenant)s || it, 0))
FROM unnest(%(digests)s::text[]) WITH ORDINALITY AS g (it, n) ORDER BY n

-- name: commit_many
-- As commit. No row: it was given up.
WITH given AS MATERIALIZED (
  SELECT * FROM unnest(%(ids)s::uuid[], %(digests)s::text[], %(sizes)s::bigint[], %(etags)s::text[],
                       %(versions)s::text[]) AS g (id, sha256, size, etag, version)
), same AS MATERIALIZED (
  SELECT g.id, it.* FROM given g CROSS JOIN LATERAL (
    SELECT b.key, b.etag, b.version FROM polyplane.blob b
    WHERE b.tenant_id = %(tenant)s AND b.sha256 = decode(g.sha256, 'hex') AND b.size = g.size
      AND b.state = 'committed' AND b.fault = '' AND b.bucket = %(bucket)s AND b.id <> g.id
    ORDER BY b.committed_at LIMIT 1 FOR SHARE
  ) it
)
UPDATE polyplane.blob b
SET state = 'committed', size = g.size, sha256 = decode(g.sha256, 'hex'),
    key = coalesce(s.key, b.key), etag = coalesce(s.etag, g.etag),
    version = coalesce(s.version, g.version),
    committed_at = clock_timestamp(), expires_at = NULL, upload = NULL
FROM given g LEFT JOIN same s USING (id)
WHERE b.id = g.id AND b.tenant_id = %(tenant)s AND b.state = 'pending'
RETURNING b.id, b.key, b.version

-- name: share_many
-- Blobs of contents that others have already: there at once. No row: nobody has it any more.
WITH given AS MATERIALIZED (
  SELECT polyplane.new_key() AS id, g.*
  FROM unnest(%(names)s::text[], %(types)s::text[], %(digests)s::text[], %(sizes)s::bigint[])
    WITH ORDINALITY AS g (name, content_type, sha256, size, n)
), same AS MATERIALIZED (
  SELECT g.id, g.n, it.* FROM given g CROSS JOIN LATERAL (
    SELECT b.key, b.etag, b.version FROM polyplane.blob b
    WHERE b.tenant_id = %(tenant)s AND b.sha256 = decode(g.sha256, 'hex') AND b.size = g.size
      AND b.state = 'committed' AND b.fault = '' AND b.bucket = %(bucket)s
    ORDER BY b.committed_at LIMIT 1 FOR SHARE
  ) it
), made AS (
  INSERT INTO polyplane.blob (id, tenant_id, name, content_type, state, bucket, key, size, sha256,
                              etag, version, committed_at)
  SELECT g.id, %(tenant)s, g.name, g.content_type, 'committed', %(bucket)s, s.key, g.size,
         decode(g.sha256, 'hex'), s.etag, s.version, clock_timestamp()
  FROM given g JOIN same s USING (id)
)
SELECT n, id FROM same ORDER BY n

-- name: delete_many
UPDATE polyplane.blob SET state = 'deleted', deleted_at = clock_timestamp()
WHERE id = ANY (%(ids)s::uuid[]) AND tenant_id = %(tenant)s AND state = 'committed'
RETURNING id
