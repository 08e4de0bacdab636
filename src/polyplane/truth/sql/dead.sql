-- name: park
-- Each failed attempt doubles the wait, up to a bound, and takes between half and all of it, so that
-- what failed together is not tried together for ever.
INSERT INTO polyplane.dead AS d (collection, key, bucket, error, next_try_at)
SELECT %(collection)s, key, bucket, error,
       clock_timestamp() + make_interval(secs => %(first_wait_s)s * (0.5 + random() / 2))
FROM unnest(%(keys)s::text[], %(buckets)s::int[], %(errors)s::text[]) AS bad (key, bucket, error)
ON CONFLICT (collection, key) DO UPDATE
SET bucket = excluded.bucket, error = excluded.error, attempts = d.attempts + 1,
    last_at = excluded.last_at,
    next_try_at = clock_timestamp() + make_interval(secs =>
      least(%(last_wait_s)s, %(first_wait_s)s * 2 ^ least(d.attempts, 30)) * (0.5 + random() / 2))

-- name: unpark
-- With a holder, only keys of buckets that it still holds: others may have parked them anew.
WITH gone AS (
  DELETE FROM polyplane.dead d
  WHERE collection = %(collection)s AND (%(keys)s::text[] IS NULL OR key = ANY (%(keys)s::text[]))
    AND (%(holder)s::uuid IS NULL OR EXISTS (
      SELECT FROM unnest(%(buckets)s::int[], %(fences)s::bigint[]) AS held (bucket, fence)
      JOIN polyplane.lease l ON l.name = 'projection:' || d.collection || ':' || held.bucket
      WHERE held.bucket = d.bucket AND l.fence = held.fence AND l.holder = %(holder)s
    ))
  RETURNING key
)
SELECT count(*) FROM gone

-- name: due
SELECT key FROM polyplane.dead
WHERE collection = %(collection)s AND bucket = ANY (%(buckets)s::int[])
  AND next_try_at <= clock_timestamp()
ORDER BY next_try_at LIMIT %(limit)s

-- name: retry
WITH due AS (
  UPDATE polyplane.dead SET next_try_at = clock_timestamp()
  WHERE collection = %(collection)s AND (%(keys)s::text[] IS NULL OR key = ANY (%(keys)s::text[]))
  RETURNING key
)
SELECT count(*) FROM due

-- name: keys
SELECT key FROM polyplane.dead WHERE collection = %(collection)s

-- name: counts
SELECT collection, count(*) FROM polyplane.dead GROUP BY collection

-- name: letters
SELECT collection, key, error, attempts, first_at, last_at, next_try_at FROM polyplane.dead
WHERE collection = %(collection)s AND key > %(after)s
  AND (%(keys)s::text[] IS NULL OR key = ANY (%(keys)s::text[]))
ORDER BY key LIMIT %(limit)s
