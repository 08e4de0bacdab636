-- name: standing
-- Every lease on a bucket and on a seat: who has it, and whether it still holds.
SELECT name, holder, expires_at >= clock_timestamp() FROM polyplane.lease
WHERE starts_with(name, 'projection:') OR starts_with(name, 'seat:')

-- name: claim
-- Take or renew leases, in one order, so that two who claim at once wait for each other in turn. The
-- fence grows when the holder changes. What somebody else has is not in the answer.
INSERT INTO polyplane.lease AS l (name, holder, fence, expires_at)
SELECT claimed.name, %(holder)s, 1, clock_timestamp() + make_interval(secs => %(ttl_s)s)
FROM unnest(%(names)s::text[]) AS claimed (name), polyplane.identity
WHERE identity.epoch = %(epoch)s
ORDER BY claimed.name
ON CONFLICT (name) DO UPDATE
SET holder = excluded.holder, expires_at = excluded.expires_at,
    fence = l.fence + (l.holder <> excluded.holder)::int
WHERE l.holder = excluded.holder OR l.expires_at < clock_timestamp()
RETURNING name, fence

-- name: give_up
UPDATE polyplane.lease SET expires_at = '-infinity'
WHERE holder = %(holder)s AND (%(names)s::text[] IS NULL OR name = ANY (%(names)s::text[]))

-- name: sweep_seats
DELETE FROM polyplane.lease
WHERE starts_with(name, 'seat:') AND expires_at < clock_timestamp() - interval '1 minute'
