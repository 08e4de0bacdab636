-- name: record
-- The lines of one transaction, in the order in which things were done.
INSERT INTO polyplane.audit (at, tenant, actor, action, resource_type, resource_id, before, after,
                             detail, request_id, address, outcome, hash)
SELECT %(at)s, %(tenant)s, %(actor)s, action, resource_type, resource_id, before, after,
       detail, %(request_id)s, %(address)s, outcome, decode(hash, 'hex')
FROM jsonb_to_recordset(CAST(%(lines)s AS jsonb))
  AS line (n int, action text, resource_type text, resource_id text, before jsonb, after jsonb,
           detail jsonb, outcome text, hash text)
ORDER BY n

-- name: head
-- The last seal, the present cluster, and whether the rows' transactions can still be compared.
SELECT i.system_identifier, s.line
FROM polyplane.identity i
LEFT JOIN (SELECT line FROM polyplane.audit_seal ORDER BY number DESC LIMIT 1) s ON true

-- name: unsealed
-- What became visible since the snapshot `prev` and is not under a seal after number `after`; one
-- page of it. The snapshot `cur` is this statement's own, so that nothing falls between two seals.
WITH s AS MATERIALIZED (SELECT pg_current_snapshot() AS cur),
sealed AS MATERIALIZED (
  SELECT coalesce(range_agg(seqs), '{}') AS seqs FROM polyplane.audit_seal WHERE number > %(after)s
),
page AS (
  SELECT a.seq, a.hash
  FROM polyplane.audit a
  WHERE a.xid >= pg_snapshot_xmin(%(prev)s::pg_snapshot)
    AND NOT pg_visible_in_snapshot(a.xid, %(prev)s::pg_snapshot)
    AND NOT a.seq <@ (SELECT seqs FROM sealed)
  ORDER BY a.seq
  LIMIT %(rows)s
)
SELECT s.cur::text, p.seq, p.hash FROM s LEFT JOIN page p ON true ORDER BY p.seq

-- name: seal
-- No row: somebody else has sealed meanwhile.
INSERT INTO polyplane.audit_seal (number, seqs, snapshot, pages, line)
SELECT %(number)s, %(seqs)s::int8multirange, %(snapshot)s::pg_snapshot, %(pages)s, %(line)s
WHERE %(number)s = (SELECT coalesce(max(number), 0) + 1 FROM polyplane.audit_seal)
ON CONFLICT (number) DO NOTHING
RETURNING number

-- name: seals
SELECT number, line FROM polyplane.audit_seal
WHERE number > %(after)s AND number <= %(upto)s ORDER BY number LIMIT %(limit)s

-- name: exported
SELECT number FROM polyplane.audit_exported WHERE place = %(place)s

-- name: note_exported
INSERT INTO polyplane.audit_exported (place, number) VALUES (%(place)s, %(number)s)
ON CONFLICT (place) DO UPDATE SET number = excluded.number

-- name: rows
-- Rows by number, from `first` to `last`.
SELECT seq, at, tenant, actor, action, resource_type, resource_id, before, after, detail, request_id,
       address, outcome, encode(hash, 'hex'), xid::text::bigint
FROM polyplane.audit
WHERE seq >= %(first)s AND seq <= %(last)s ORDER BY seq LIMIT %(limit)s

-- name: search
-- The newest of those that fit, before number `before`.
SELECT seq, at, tenant, actor, action, resource_type, resource_id, before, after, detail, request_id,
       address, outcome, encode(hash, 'hex'), xid::text::bigint
FROM polyplane.audit
WHERE seq < %(before)s
  AND (%(tenant)s::text IS NULL OR tenant = %(tenant)s)
  AND (%(actor)s::text IS NULL OR actor = %(actor)s)
  AND (%(action)s::text IS NULL OR action = %(action)s
       OR starts_with(action, rtrim(%(action)s, '*')) AND %(action)s LIKE '%%*')
  AND (%(resource_type)s::text IS NULL OR resource_type = %(resource_type)s)
  AND (%(resource_id)s::text IS NULL OR resource_id = %(resource_id)s)
  AND (%(since)s::timestamptz IS NULL OR at >= %(since)s)
  AND (%(until)s::timestamptz IS NULL OR at < %(until)s)
ORDER BY seq DESC LIMIT %(limit)s

-- name: beside
-- Rows that are not among the numbers `covered`.
SELECT seq, at, tenant, actor, action, resource_type, resource_id, before, after, detail, request_id,
       address, outcome, encode(hash, 'hex'), xid::text::bigint
FROM polyplane.audit
WHERE seq > %(after)s AND NOT seq <@ %(covered)s::int8multirange ORDER BY seq LIMIT %(limit)s

-- name: seals_over
SELECT line FROM polyplane.audit_seal WHERE seqs && %(seqs)s::int8multirange ORDER BY number

-- name: leaves
SELECT seq, hash FROM polyplane.audit
WHERE seq BETWEEN %(first)s AND %(last)s AND seq <@ %(seqs)s::int8multirange ORDER BY seq

-- name: count
-- About how many rows there are: between the first number and the last.
SELECT coalesce(max(seq) - min(seq) + 1, 0) FROM polyplane.audit
