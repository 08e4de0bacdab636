-- name: identity
SELECT epoch, system_identifier,
       (SELECT system_identifier::text FROM pg_control_system()) AS current
FROM polyplane.identity

-- name: bump_epoch
-- The orders of the old epoch say nothing in the new one, whose messages come after `after` and
-- `events_after`. With `refill` no collection is filled any more. No row: another process has ended
-- it.
WITH bumped AS (
  UPDATE polyplane.identity
  SET epoch = greatest(epoch + 1, %(at_least)s),
      system_identifier = (SELECT system_identifier::text FROM pg_control_system())
  WHERE epoch = %(epoch)s
  RETURNING epoch
),
forgotten AS (DELETE FROM polyplane.tail WHERE EXISTS (SELECT FROM bumped)),
begun AS (
  INSERT INTO polyplane.relayed (epoch, snapshot, changes_end, events_end)
  SELECT epoch, '1:1:', %(after)s, %(events_after)s FROM bumped
  ON CONFLICT (only_row) DO UPDATE SET
    epoch = excluded.epoch, snapshot = excluded.snapshot, cur = NULL, upto = NULL,
    changes_end = excluded.changes_end, events_end = excluded.events_end
),
moved AS (
  UPDATE polyplane.projected SET position = bumped.epoch::bigint << 40 | %(after)s FROM bumped
  WHERE NOT %(refill)s
),
unprojected AS (DELETE FROM polyplane.projected WHERE %(refill)s AND EXISTS (SELECT FROM bumped)),
unfilled AS (
  UPDATE polyplane.collection SET filled_at = NULL, position = NULL
  WHERE %(refill)s AND EXISTS (SELECT FROM bumped)
)
SELECT epoch FROM bumped

-- name: published_order
SELECT greatest(
  (SELECT max(position & ((1::bigint << 40) - 1)) FROM polyplane.projected
   WHERE position >> 40 = %(epoch)s),
  (SELECT max("order") FROM polyplane.tail
   WHERE EXISTS (SELECT FROM polyplane.relayed WHERE epoch = %(epoch)s)),
  0)

-- name: lease
-- Take or renew a lease. The fence grows when the holder changes. No row: somebody else has it, or
-- the epoch is over.
INSERT INTO polyplane.lease AS l (name, holder, fence, expires_at)
SELECT %(name)s, %(holder)s, 1, clock_timestamp() + make_interval(secs => %(ttl_s)s)
FROM polyplane.identity WHERE epoch = %(epoch)s
ON CONFLICT (name) DO UPDATE
SET holder = excluded.holder, expires_at = excluded.expires_at,
    fence = l.fence + (l.holder <> excluded.holder)::int
WHERE l.holder = excluded.holder OR l.expires_at < clock_timestamp()
RETURNING fence

-- name: release
UPDATE polyplane.lease SET expires_at = '-infinity' WHERE name = %(name)s AND holder = %(holder)s

-- name: relayed
-- All that is visible in `snapshot` is published (see base.sql), and these orders; it never goes
-- back, for a relay that was paused may come late. Of two snapshots the older has less behind it.
WITH moved AS (
  INSERT INTO polyplane.tail AS t (tbl, bucket, "order")
  SELECT * FROM unnest(%(tables)s::text[], %(buckets)s::int[], %(orders)s::bigint[])
  WHERE %(epoch)s = (SELECT epoch FROM polyplane.identity)
  ON CONFLICT (tbl, bucket) DO UPDATE SET "order" = greatest(t."order", excluded."order")
)
INSERT INTO polyplane.relayed (epoch, snapshot, cur, upto, changes_end, events_end)
VALUES (%(epoch)s, %(snapshot)s::pg_snapshot, %(cur)s::pg_snapshot, %(upto)s,
        %(changes_end)s, %(events_end)s)
ON CONFLICT (only_row) DO UPDATE SET
  epoch = excluded.epoch, snapshot = excluded.snapshot, cur = excluded.cur, upto = excluded.upto,
  changes_end = excluded.changes_end, events_end = excluded.events_end
WHERE (relayed.epoch, pg_snapshot_xmax(relayed.snapshot), pg_snapshot_xmin(relayed.snapshot),
       -(SELECT count(*) FROM pg_snapshot_xip(relayed.snapshot)), relayed.changes_end)
   <= (excluded.epoch, pg_snapshot_xmax(excluded.snapshot), pg_snapshot_xmin(excluded.snapshot),
       -(SELECT count(*) FROM pg_snapshot_xip(excluded.snapshot)), excluded.changes_end)

-- name: last_relayed
SELECT snapshot::text, changes_end, events_end, cur::text, upto
FROM polyplane.relayed WHERE epoch = %(epoch)s

-- name: is_relayed
-- Whether the transaction `xid` has captured nothing, or all it captured is published.
SELECT NOT EXISTS (SELECT FROM polyplane.outbox WHERE xid = %(xid)s::text::xid8)
    OR EXISTS (
      SELECT FROM polyplane.relayed
      WHERE epoch = %(epoch)s AND pg_visible_in_snapshot(%(xid)s::text::xid8, snapshot)
    )

-- name: is_cut_relayed
-- Whether everything that was visible in the snapshot `cut` is published in this epoch.
WITH r AS (
  SELECT coalesce((SELECT snapshot FROM polyplane.relayed WHERE epoch = %(epoch)s), '1:1:') AS done
)
SELECT NOT EXISTS (
  SELECT FROM r, polyplane.outbox o
  WHERE o.xid >= pg_snapshot_xmin(r.done) AND NOT pg_visible_in_snapshot(o.xid, r.done)
    AND pg_visible_in_snapshot(o.xid, %(cut)s::pg_snapshot)
)

-- name: cut
SELECT pg_current_snapshot()::text

-- name: behind
-- Which (collection, bucket) have not applied all that is published for their tables; order 0 when
-- nothing is, but the collection was never filled.
WITH need AS (
  SELECT p.name, coalesce(t.bucket, 0) AS bucket, coalesce(max(t."order"), 0) AS "order"
  FROM unnest(%(collections)s::text[], %(tables)s::text[]) AS p (name, tbl)
  LEFT JOIN polyplane.tail t ON t.tbl = p.tbl GROUP BY 1, 2
)
SELECT n.name, n.bucket, n."order"
FROM need n LEFT JOIN polyplane.projected d ON d.collection = n.name AND d.bucket = n.bucket
WHERE coalesce(d.position, 0) < (%(epoch)s::bigint << 40 | n."order")

-- name: projected
INSERT INTO polyplane.projected AS p (collection, bucket, position, witness, witnessed)
SELECT %(collection)s, bucket, position, witness, position
FROM unnest(%(buckets)s::int[], %(positions)s::bigint[], %(witnesses)s::text[])
  AS u (bucket, position, witness)
ON CONFLICT (collection, bucket) DO UPDATE SET
  position = greatest(p.position, excluded.position),
  witness = coalesce(excluded.witness, p.witness),
  witnessed = CASE WHEN excluded.witness IS NULL THEN p.witnessed ELSE excluded.witnessed END

-- name: witnesses
SELECT witness, witnessed FROM polyplane.projected
WHERE collection = %(collection)s AND witness IS NOT NULL

-- name: unfill
WITH unprojected AS (DELETE FROM polyplane.projected WHERE collection = %(name)s)
UPDATE polyplane.collection SET filled_at = NULL, position = NULL WHERE name = %(name)s

-- name: projected_held
-- As `projected`, for those buckets that the holder still holds; which they are. None of a
-- collection that is to be filled again: its positions are gone, and only the fill brings others.
UPDATE polyplane.projected p SET
  position = greatest(p.position, %(position)s),
  witness = coalesce(u.witness, p.witness),
  witnessed = CASE WHEN u.witness IS NULL THEN p.witnessed ELSE %(position)s END
FROM unnest(%(buckets)s::int[], %(witnesses)s::text[], %(fences)s::bigint[])
  AS u (bucket, witness, fence)
JOIN polyplane.lease l ON l.name = 'projection:' || %(collection)s || ':' || u.bucket
WHERE p.collection = %(collection)s AND p.bucket = u.bucket
  AND l.fence = u.fence AND l.holder = %(holder)s
RETURNING p.bucket

-- name: positions
SELECT collection, bucket, position FROM polyplane.projected

-- name: tails
SELECT tbl, bucket, "order" FROM polyplane.tail

-- name: ingest_open
-- The ranges that were begun and are not known to be stored.
SELECT first, last FROM polyplane.ingested
WHERE stream = %(stream)s AND epoch = %(epoch)s AND NOT stored ORDER BY first

-- name: ingest_through
SELECT coalesce(max(last), 0) FROM polyplane.ingested
WHERE stream = %(stream)s AND epoch = %(epoch)s AND stored

-- name: ingest_known
-- The batches of a stream, whatever incarnation and epoch brought them; whether they are stored.
SELECT b.batch, max(b.points), min(b.oldest), max(b.newest), bool_or(i.stored)
FROM polyplane.ingested i, unnest(i.batches, i.points, i.oldest, i.newest)
  AS b (batch, points, oldest, newest)
WHERE starts_with(i.stream, %(prefix)s)
GROUP BY b.batch ORDER BY min(b.oldest)

-- name: ingest_begin
INSERT INTO polyplane.ingested (stream, epoch, first, last, batches, points, oldest, newest)
VALUES (%(stream)s, %(epoch)s, %(first)s, %(last)s, %(batches)s::bigint[], %(points)s::bigint[],
        %(oldest)s::bigint[], %(newest)s::bigint[])
ON CONFLICT DO NOTHING RETURNING first

-- name: ingest_stored
-- Older rows of the stream have done their work; those of the last 100,000 messages stay, so that
-- `verify` can see whether what they brought is still there.
WITH done AS (
  UPDATE polyplane.ingested SET stored = true
  WHERE stream = %(stream)s AND epoch = %(epoch)s AND first = %(first)s
)
DELETE FROM polyplane.ingested
WHERE stream = %(stream)s AND stored AND (epoch < %(epoch)s OR last < %(first)s - 100000)

-- name: rows_about
-- From statistics, which cost nothing to look at; a partitioned table's are those of its partitions.
SELECT sum(coalesce(nullif(pg_stat_get_live_tuples(c.oid), 0), greatest(c.reltuples, 0)))::bigint
FROM pg_class c
WHERE c.oid = to_regclass(%(name)s)
   OR c.oid IN (SELECT relid FROM pg_partition_tree(to_regclass(%(name)s)) WHERE isleaf)

-- name: capture_definition
SELECT obj_description(p.oid, 'pg_proc') FROM pg_proc p
WHERE p.oid = to_regprocedure(%s || '()')

-- name: capture_relations
-- A table and its partitions, and whether each has these triggers.
SELECT format('%%I.%%I', n.nspname, c.relname),
       (SELECT count(*) FROM pg_trigger t
        WHERE t.tgrelid = c.oid AND t.tgname = ANY(%(triggers)s) AND t.tgenabled = 'A')
       = cardinality(%(triggers)s::text[])
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = to_regclass(%(name)s)
   OR c.oid IN (SELECT relid FROM pg_partition_tree(to_regclass(%(name)s)))

-- name: capture_dangling
-- Trigger functions on behalf of other tables (the trigger's argument is the column that holds their
-- keys) whose column is gone: with one of them every write to its table fails.
SELECT DISTINCT p.oid::regprocedure::text
FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
WHERE p.pronamespace = to_regnamespace('polyplane') AND t.tgnargs = 1 AND NOT EXISTS (
  SELECT FROM pg_attribute a
  WHERE a.attrelid = t.tgrelid AND NOT a.attisdropped
    AND convert_to(a.attname, getdatabaseencoding()) || '\x00'::bytea = t.tgargs
)

-- name: capture_is_indexed
-- Whether an index finds the rows of a table by this column.
SELECT EXISTS (
  SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
  WHERE i.indrelid = to_regclass(%(table)s) AND a.attname = %(column)s
    AND i.indisvalid AND i.indpred IS NULL
)

-- name: trigger_insert
CREATE OR REPLACE TRIGGER {trigger} AFTER INSERT ON {table}
  REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION {function}({column});
ALTER TABLE {table} ENABLE ALWAYS TRIGGER {trigger}

-- name: trigger_update
CREATE OR REPLACE TRIGGER {trigger} AFTER UPDATE ON {table}
  REFERENCING NEW TABLE AS new_rows OLD TABLE AS old_rows
  FOR EACH STATEMENT EXECUTE FUNCTION {function}({column});
ALTER TABLE {table} ENABLE ALWAYS TRIGGER {trigger}

-- name: trigger_delete
CREATE OR REPLACE TRIGGER {trigger} AFTER DELETE ON {table}
  REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION {function}({column});
ALTER TABLE {table} ENABLE ALWAYS TRIGGER {trigger}

-- name: trigger_truncate
CREATE OR REPLACE TRIGGER {trigger} BEFORE TRUNCATE ON {table}
  FOR EACH STATEMENT EXECUTE FUNCTION {function}({column});
ALTER TABLE {table} ENABLE ALWAYS TRIGGER {trigger}
