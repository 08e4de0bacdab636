-- name: start
-- No row: there is one with this key already. With a holder it is his at once.
INSERT INTO polyplane.saga
  (tenant_id, name, key, version, marks, input, actor, at, deadline_at, holder, fence, wake_at)
VALUES (%(tenant)s, %(name)s, %(key)s, %(version)s, %(marks)s::text::json, %(input)s::text::json,
        %(actor)s, %(at)s, clock_timestamp() + make_interval(secs => %(deadline_s)s::float8),
        %(holder)s::uuid, (%(holder)s::uuid IS NOT NULL)::int,
        clock_timestamp() + make_interval(secs => %(lease_s)s::float8))
ON CONFLICT (tenant_id, name, key) DO NOTHING
RETURNING id, since, deadline_at

-- name: with_key
SELECT id, input::text FROM polyplane.saga
WHERE tenant_id = %(tenant)s AND name = %(name)s AND key = %(key)s

-- name: claim
-- Those that are due, or whose holder has let his lease run out; the longest waiting first.
UPDATE polyplane.saga s
SET holder = %(holder)s, fence = s.fence + 1,
    wake_at = clock_timestamp() + make_interval(secs => %(lease_s)s::float8)
FROM (
  SELECT id FROM polyplane.saga
  WHERE state IN ('running', 'undoing') AND wake_at <= clock_timestamp()
    AND name = ANY (%(names)s::text[])
  ORDER BY wake_at LIMIT %(limit)s FOR NO KEY UPDATE SKIP LOCKED
) due
WHERE s.id = due.id
RETURNING s.id, s.fence

-- name: held
-- In a statement of its own: the claim's snapshot may be older than what it has waited for.
SELECT s.id, s.tenant_id, s.name, s.version, s.marks::text, s.input::text, s.actor, s.state, s.at,
       s.since, s.attempt, s.entered, s.fence, s.news, s.adopt, s.cancelled, s.error,
       s.deadline_at, clock_timestamp(),
       (SELECT coalesce(json_agg(json_build_array(t.n, t.name, t.version, t.outcome, t.result,
                                                  t.token, t.undone_at IS NOT NULL)
                                 ORDER BY t.n), '[]')::text
        FROM polyplane.saga_step t WHERE t.saga = s.id)
FROM polyplane.saga s
JOIN unnest(%(ids)s::uuid[], %(fences)s::bigint[]) AS mine (id, fence)
  ON s.id = mine.id AND s.fence = mine.fence
WHERE s.state IN ('running', 'undoing')

-- name: renew
UPDATE polyplane.saga s
SET wake_at = clock_timestamp() + make_interval(secs => %(lease_s)s::float8)
FROM unnest(%(ids)s::uuid[], %(fences)s::bigint[]) AS mine (id, fence)
WHERE s.id = mine.id AND s.fence = mine.fence AND s.holder = %(holder)s
RETURNING s.id, s.cancelled

-- name: done
SELECT cancelled, ended, news, token, now
FROM polyplane.saga_done(%(id)s, %(fence)s, %(n)s, %(name)s, %(version)s, %(attempts)s,
                         %(result)s::text::json, %(epoch)s, %(next)s)

-- name: undone
SELECT polyplane.saga_undone(%(id)s, %(fence)s, %(n)s, %(next)s)

-- name: turn
-- From now on all is undone, the step `at` first; with '' there is nothing to undo. With `unknown` its
-- present step may have taken effect.
WITH turned AS (
  UPDATE polyplane.saga
  SET state = CASE WHEN %(at)s = '' THEN 'undone' ELSE 'undoing' END, error = %(error)s,
      at = %(at)s, since = clock_timestamp(), attempt = 0,
      ended_at = CASE WHEN %(at)s = '' THEN clock_timestamp() END,
      holder = CASE WHEN %(at)s = '' THEN NULL ELSE holder END
  WHERE id = %(id)s AND fence = %(fence)s AND state = 'running'
  RETURNING id, news
),
noted AS (
  INSERT INTO polyplane.saga_step (saga, n, name, version, outcome, attempts)
  SELECT id, %(n)s, %(unknown)s, %(unknown_version)s, 'unknown', %(attempts)s FROM turned
  WHERE %(unknown)s::text IS NOT NULL
)
SELECT news FROM turned

-- name: failed
-- Given up until then; who takes it up again has another fence.
UPDATE polyplane.saga
SET attempt = attempt + 1, error = CASE WHEN state = 'running' THEN %(error)s ELSE error END,
    undo_error = CASE WHEN state = 'undoing' THEN %(error)s ELSE '' END,
    wake_at = clock_timestamp() + make_interval(
      secs => CASE WHEN news = %(news)s THEN %(wait_s)s::float8 ELSE 0 END),
    holder = NULL
WHERE id = %(id)s AND fence = %(fence)s AND state IN ('running', 'undoing')
RETURNING news

-- name: park
-- Only if nobody has told it anything since: what it waits for may have come.
UPDATE polyplane.saga
SET wake_at = coalesce(%(due)s::timestamptz, 'infinity'), holder = NULL
WHERE id = %(id)s AND fence = %(fence)s AND news = %(news)s
RETURNING news

-- name: aside
-- To be looked at by somebody: "stuck" or "changed".
UPDATE polyplane.saga
SET state = %(state)s, error = CASE WHEN %(state)s = 'changed' THEN %(error)s ELSE error END,
    undo_error = CASE WHEN %(state)s = 'stuck' THEN %(error)s ELSE undo_error END,
    attempt = CASE WHEN %(state)s = 'stuck' THEN attempt + 1 ELSE attempt END,
    wake_at = 'infinity', holder = NULL
WHERE id = %(id)s AND fence = %(fence)s AND state IN ('running', 'undoing') AND news = %(news)s
RETURNING news

-- name: adopt
-- It goes on by what is declared now. With `unknown` the step it was at may have taken effect.
WITH adopted AS (
  UPDATE polyplane.saga
  SET version = %(version)s, marks = %(marks)s::text::json, at = %(at)s, adopt = false,
      since = CASE WHEN at = %(at)s THEN since ELSE clock_timestamp() END,
      attempt = CASE WHEN at = %(at)s THEN attempt ELSE 0 END
  WHERE id = %(id)s AND fence = %(fence)s AND state = 'running' AND news = %(news)s
  RETURNING id, news
),
noted AS (
  INSERT INTO polyplane.saga_step (saga, n, name, version, outcome, attempts)
  SELECT id, %(n)s, %(unknown)s, %(unknown_version)s, 'unknown', %(attempts)s FROM adopted
  WHERE %(unknown)s::text IS NOT NULL
)
SELECT news FROM adopted

-- name: end
-- There is nothing left to do, or to undo.
UPDATE polyplane.saga
SET state = %(state)s, at = '', ended_at = clock_timestamp(), holder = NULL
WHERE id = %(id)s AND fence = %(fence)s AND state IN ('running', 'undoing') AND news = %(news)s
RETURNING news

-- name: release
UPDATE polyplane.saga s SET wake_at = clock_timestamp(), holder = NULL
FROM unnest(%(ids)s::uuid[], %(fences)s::bigint[]) AS mine (id, fence)
WHERE s.id = mine.id AND s.fence = mine.fence AND s.holder = %(holder)s

-- name: release_all
UPDATE polyplane.saga SET wake_at = clock_timestamp(), holder = NULL
WHERE ended_at IS NULL AND holder = %(holder)s

-- name: signalled
SELECT payload::text FROM polyplane.saga_signal WHERE saga = %(id)s AND name = %(name)s

-- name: tell
SELECT polyplane.saga_tell(%(id)s, %(name)s, %(payload)s::text::json)

-- name: cancel
UPDATE polyplane.saga
SET cancelled = coalesce(cancelled, %(why)s), news = news + 1,
    state = CASE WHEN state = 'changed' THEN 'running' ELSE state END,
    wake_at = CASE WHEN holder IS NULL AND state IN ('running', 'changed') THEN clock_timestamp()
                   ELSE wake_at END
WHERE id = %(id)s AND ended_at IS NULL
RETURNING id

-- name: retry
-- What is held is being tried. Tries are counted anew where they had come to an end.
UPDATE polyplane.saga
SET state = CASE state WHEN 'stuck' THEN 'undoing' WHEN 'changed' THEN 'running' ELSE state END,
    attempt = CASE WHEN state = 'stuck' THEN 0 ELSE attempt END,
    adopt = %(anyway)s AND state IN ('stuck', 'changed'), news = news + 1,
    wake_at = CASE WHEN holder IS NULL THEN clock_timestamp() ELSE wake_at END
WHERE id = %(id)s AND ended_at IS NULL
RETURNING id

-- name: list
SELECT s.id, s.tenant_id, s.name, s.key, s.version, s.state, s.at, s.attempt, s.error, s.undo_error,
       s.actor, s.input::text, s.started_at, nullif(s.wake_at, 'infinity'), s.ended_at,
       s.holder IS NOT NULL, s.cancelled IS NOT NULL
FROM polyplane.saga s
WHERE (%(state)s::text IS NULL OR s.state = %(state)s)
  AND (%(name)s::text IS NULL OR s.name = %(name)s)
  AND (%(tenant)s::text IS NULL OR s.tenant_id = %(tenant)s)
  AND (%(after)s::uuid IS NULL OR (s.started_at, s.id) <
       (SELECT a.started_at, a.id FROM polyplane.saga a WHERE a.id = %(after)s))
ORDER BY s.started_at DESC, s.id DESC LIMIT %(limit)s

-- name: show
SELECT s.id, s.tenant_id, s.name, s.key, s.version, s.state, s.at, s.attempt, s.error, s.undo_error,
       s.actor, s.input::text, s.started_at, nullif(s.wake_at, 'infinity'), s.ended_at,
       s.holder IS NOT NULL, s.cancelled IS NOT NULL,
       (SELECT coalesce(json_agg(json_build_array(t.name, t.version, t.outcome, t.attempts, t.at,
                                                  t.result, t.token, t.undone_at)
                                 ORDER BY t.n), '[]')::text
        FROM polyplane.saga_step t WHERE t.saga = s.id)
FROM polyplane.saga s WHERE s.id = %(id)s

-- name: state
SELECT state FROM polyplane.saga WHERE id = %(id)s

-- name: counts
-- Of what has not ended: how many, how old the oldest is, and for how long the longest waiting of
-- those that are due has waited for somebody to take it up, in seconds.
SELECT state, count(*), extract(epoch FROM clock_timestamp() - min(started_at))::float8,
       coalesce(extract(epoch FROM clock_timestamp() - min(wake_at)
                FILTER (WHERE state IN ('running', 'undoing') AND wake_at < clock_timestamp())), 0)::float8
FROM polyplane.saga WHERE ended_at IS NULL GROUP BY state

-- name: purge
-- Sagas that ended long ago, some at a time.
WITH gone AS (
  SELECT id FROM polyplane.saga
  WHERE ended_at < clock_timestamp() - make_interval(secs => %(keep_s)s::float8)
  ORDER BY ended_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
),
steps AS (DELETE FROM polyplane.saga_step USING gone WHERE saga = gone.id),
signals AS (DELETE FROM polyplane.saga_signal USING gone WHERE saga = gone.id),
sagas AS (DELETE FROM polyplane.saga s USING gone WHERE s.id = gone.id)
SELECT count(*) FROM gone
