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
