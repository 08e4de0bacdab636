-- name: window
-- What became visible since the snapshot `prev`, in the order of the locks; one page of it. The
-- snapshot `cur` is this statement's own, so that nothing falls between two windows.
WITH s AS MATERIALIZED (SELECT pg_current_snapshot() AS cur),
page AS (
  SELECT o.seq, o.tbl, o.op, o.keys, o.body, o.at
  FROM polyplane.outbox o
  WHERE o.xid >= pg_snapshot_xmin(%(prev)s::pg_snapshot)
    AND NOT pg_visible_in_snapshot(o.xid, %(prev)s::pg_snapshot)
  ORDER BY o.seq
  LIMIT %(rows)s
)
SELECT s.cur::text, p.seq, p.tbl, p.op::text, p.keys, p.body::text, p.at
FROM s LEFT JOIN page p ON true ORDER BY p.seq

-- name: page
-- Rows of the window (prev, cur], after `after` and up to `upto`.
SELECT o.seq, o.tbl, o.op::text, o.keys, o.body::text, o.at
FROM polyplane.outbox o
WHERE o.xid >= pg_snapshot_xmin(%(prev)s::pg_snapshot)
  AND NOT pg_visible_in_snapshot(o.xid, %(prev)s::pg_snapshot)
  AND pg_visible_in_snapshot(o.xid, %(cur)s::pg_snapshot)
  AND o.seq > %(after)s AND o.seq <= %(upto)s
ORDER BY o.seq

-- name: emit
SELECT polyplane.emit(%(types)s::text[], %(bodies)s::jsonb[])

-- name: touch
SELECT polyplane.touch(%(table)s, %(keys)s::text[], %(ops)s::text[])

-- name: next_partition
-- Where a new partition should begin, or no row while the last one is less than half used.
WITH bound AS (
  SELECT max((regexp_match(pg_get_expr(c.relpartbound, c.oid), 'TO \(''?(\d+)'))[1]::bigint) AS upper
  FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
  WHERE i.inhparent = 'polyplane.outbox'::regclass
), used AS (
  SELECT last_value AS seq, (SELECT coalesce(max(seq), 0) FROM polyplane.outbox_rest) AS rest
  FROM polyplane.outbox_seq_seq
)
SELECT greatest(upper, (rest / 10000000 + 1) * 10000000 * (rest > 0)::int)
FROM bound, used WHERE seq > upper - 5000000

-- name: make_partition
SELECT polyplane.make_partition(%(start)s)

-- name: drop_partitions
SELECT polyplane.drop_partitions()

-- name: pending
-- How many rows wait for the relay, at most 10,000 counted, and the age of the oldest in seconds.
SELECT count(*), coalesce(extract(epoch FROM now() - min(at)), 0)::float8
FROM (
  SELECT o.at FROM polyplane.outbox o, polyplane.relayed r
  WHERE o.xid >= pg_snapshot_xmin(r.snapshot) AND NOT pg_visible_in_snapshot(o.xid, r.snapshot)
  LIMIT 10000
) AS waiting
