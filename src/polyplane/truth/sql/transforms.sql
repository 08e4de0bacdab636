-- name: insert
-- The first time. Nothing where it is known already.
INSERT INTO polyplane.transformation (name, version, actor, epoch, about)
VALUES (%(name)s, %(version)s, %(actor)s, %(epoch)s, %(about)s)
ON CONFLICT (name) DO NOTHING
RETURNING name

-- name: known
-- Locked: nobody ends it or begins it again meanwhile. A day later changes may be gone.
SELECT version, state, epoch, looked_at < clock_timestamp() - make_interval(secs => %(old_s)s::float8)
FROM polyplane.transformation WHERE name = %(name)s FOR UPDATE

-- name: reset
-- From the first row on. What has changed since it last looked is taken too, where that can be told:
-- rows that are gone are in nothing else.
UPDATE polyplane.transformation
SET version = %(version)s, actor = %(actor)s, state = 'running', phase = 'rows', after = NULL,
    epoch = %(epoch)s,
    since = CASE WHEN %(keeps)s THEN since ELSE pg_current_snapshot() END,
    cur = CASE WHEN %(keeps)s THEN cur END, upto = CASE WHEN %(keeps)s THEN upto ELSE 0 END,
    looked_at = CASE WHEN %(keeps)s THEN looked_at ELSE clock_timestamp() END, about = %(about)s, read = 0, written = 0, skipped = 0, again = 0,
    deleted = 0, attempt = 0, error = '', fence = fence + 1, holder = NULL,
    wake_at = clock_timestamp(), started_at = clock_timestamp(), ended_at = NULL
WHERE name = %(name)s

-- name: resume
-- From where it stopped; and what is done goes on with what has changed since.
UPDATE polyplane.transformation
SET state = 'running', actor = %(actor)s, attempt = 0, error = '', holder = NULL,
    phase = CASE WHEN state = 'done' THEN 'changes' ELSE phase END,
    wake_at = clock_timestamp(), ended_at = NULL
WHERE name = %(name)s

-- name: claim
-- Take what is due, of what this code declares in the version that it was begun with.
UPDATE polyplane.transformation t
SET holder = %(holder)s, fence = fence + 1,
    wake_at = clock_timestamp() + make_interval(secs => %(lease_s)s::float8)
FROM (
  SELECT s.name FROM polyplane.transformation s
  JOIN unnest(%(names)s::text[], %(versions)s::int[]) AS d (name, version)
    ON d.name = s.name AND d.version = s.version
  WHERE s.state = 'running' AND s.wake_at <= clock_timestamp()
  ORDER BY s.wake_at LIMIT %(limit)s FOR UPDATE OF s SKIP LOCKED
) AS due
WHERE t.name = due.name
RETURNING t.name, t.fence, t.actor, t.phase, t.after, t.epoch, t.since::text, t.cur::text, t.upto,
  t.attempt, t.looked_at < clock_timestamp() - make_interval(secs => %(old_s)s::float8)

-- name: renew
UPDATE polyplane.transformation t
SET wake_at = clock_timestamp() + make_interval(secs => %(lease_s)s::float8)
FROM unnest(%(names)s::text[], %(fences)s::bigint[]) AS mine (name, fence)
WHERE t.name = mine.name AND t.fence = mine.fence AND t.state = 'running'
RETURNING t.name

-- name: note
-- A page is written: the last statement of its transaction. Nothing when another process has it, or
-- somebody has stopped it.
UPDATE polyplane.transformation
SET phase = %(phase)s, after = %(after)s, since = %(since)s::pg_snapshot, cur = %(cur)s::pg_snapshot,
    upto = %(upto)s,
    looked_at = CASE WHEN %(looked)s THEN clock_timestamp() ELSE looked_at END,
    read = read + %(read)s, written = written + %(written)s, skipped = skipped + %(skipped)s,
    again = again + %(again)s, deleted = deleted + %(deleted)s, attempt = 0, error = '',
    wake_at = clock_timestamp() + make_interval(secs => %(lease_s)s)
WHERE name = %(name)s AND fence = %(fence)s AND state = 'running'
RETURNING fence

-- name: again
-- From the first row on: what has changed since it last looked cannot be told any more.
UPDATE polyplane.transformation
SET phase = 'rows', after = NULL, epoch = %(epoch)s, since = pg_current_snapshot(), cur = NULL,
    upto = 0, looked_at = clock_timestamp(), read = 0, written = 0, skipped = 0, again = 0, deleted = 0
WHERE name = %(name)s AND fence = %(fence)s AND state = 'running'
RETURNING since::text

-- name: hold
SELECT fence FROM polyplane.transformation
WHERE name = %(name)s AND fence = %(fence)s AND state = 'running' FOR UPDATE

-- name: end
-- Unless letters are to be tried again.
UPDATE polyplane.transformation
SET state = 'done', ended_at = clock_timestamp(), holder = NULL
WHERE name = %(name)s AND NOT EXISTS (
  SELECT FROM polyplane.transformation_dead d WHERE d.name = %(name)s AND d.due
)
RETURNING name

-- name: failed
-- To be taken up again in a while; or, when it is final, by somebody who has looked at it.
UPDATE polyplane.transformation
SET attempt = attempt + 1, error = %(error)s, holder = NULL,
    state = CASE WHEN %(final)s THEN 'failed' ELSE state END,
    ended_at = CASE WHEN %(final)s THEN clock_timestamp() END,
    wake_at = clock_timestamp() + make_interval(secs => %(wait_s)s::float8)
WHERE name = %(name)s AND fence = %(fence)s AND state = 'running'

-- name: release
UPDATE polyplane.transformation SET wake_at = clock_timestamp(), holder = NULL
WHERE holder = %(holder)s

-- name: stop
UPDATE polyplane.transformation
SET state = 'stopped', fence = fence + 1, holder = NULL, ended_at = clock_timestamp()
WHERE name = %(name)s AND state = 'running'
RETURNING name

-- name: records
SELECT t.name, t.version, t.state, t.phase, t.about, t.read, t.written, t.skipped, t.again, t.deleted,
       (SELECT count(*) FROM polyplane.transformation_dead d WHERE d.name = t.name), t.attempt,
       t.error, t.holder IS NOT NULL AND t.wake_at > clock_timestamp(), t.started_at, t.ended_at
FROM polyplane.transformation t WHERE t.name = ANY (%(names)s::text[])

-- name: changed
-- Keys of rows of a table that have changed since `since`, by the difference of two snapshots; some of
-- them. Without `cur` this statement's own snapshot ends the window, so that nothing falls between
-- two.
WITH s AS MATERIALIZED (
  SELECT coalesce(%(cur)s::pg_snapshot, pg_current_snapshot()) AS cur
),
page AS (
  SELECT o.seq, o.keys FROM polyplane.outbox o
  WHERE o.tbl = %(table)s AND o.op IN ('I', 'U', 'D')
    AND o.xid >= pg_snapshot_xmin(%(since)s::pg_snapshot)
    AND NOT pg_visible_in_snapshot(o.xid, %(since)s::pg_snapshot)
    AND (%(cur)s::pg_snapshot IS NULL OR pg_visible_in_snapshot(o.xid, %(cur)s::pg_snapshot))
    AND o.seq > %(upto)s
  ORDER BY o.seq LIMIT %(rows)s
)
SELECT s.cur::text, p.seq, p.keys FROM s LEFT JOIN page p ON true ORDER BY p.seq

-- name: park
INSERT INTO polyplane.transformation_dead AS d (name, key, error)
SELECT %(name)s, key, error FROM unnest(%(keys)s::text[], %(errors)s::text[]) AS bad (key, error)
ON CONFLICT (name, key) DO UPDATE
SET error = excluded.error, attempts = d.attempts + 1, last_at = excluded.last_at, due = false

-- name: count
SELECT count(*) FROM polyplane.transformation_dead WHERE name = %(name)s

-- name: unpark
DELETE FROM polyplane.transformation_dead
WHERE name = %(name)s AND key = ANY (%(keys)s::text[])

-- name: forget
DELETE FROM polyplane.transformation_dead WHERE name = %(name)s

-- name: due
SELECT key FROM polyplane.transformation_dead WHERE name = %(name)s AND due
ORDER BY key LIMIT %(limit)s

-- name: letters
SELECT key, error, attempts, first_at, last_at, due FROM polyplane.transformation_dead
WHERE name = %(name)s AND key > %(after)s
  AND (%(keys)s::text[] IS NULL OR key = ANY (%(keys)s::text[]))
ORDER BY key LIMIT %(limit)s

-- name: retry
WITH due AS (
  UPDATE polyplane.transformation_dead SET due = true
  WHERE name = %(name)s AND (%(keys)s::text[] IS NULL OR key = ANY (%(keys)s::text[]))
  RETURNING key
)
SELECT count(*) FROM due

-- name: go_on
-- What was done takes up the letters that are due; what is stopped does when it goes on.
UPDATE polyplane.transformation
SET state = 'running', phase = 'letters', attempt = 0, error = '', holder = NULL,
    wake_at = clock_timestamp(), ended_at = NULL
WHERE name = %(name)s AND state = 'done'

-- name: drop
WITH gone AS (
  DELETE FROM polyplane.transformation_dead
  WHERE name = %(name)s AND (%(keys)s::text[] IS NULL OR key = ANY (%(keys)s::text[]))
  RETURNING key
)
SELECT count(*) FROM gone
