-- name: rows
SELECT name, projection, generation, version, definition, shape, state, begun,
       filled_at IS NOT NULL, proven_at IS NOT NULL, extract(epoch FROM clock_timestamp() - switched_at)::float8, error
FROM polyplane.collection ORDER BY projection, generation

-- name: declare
-- A further generation, in place of what is being built, and of what is read when it is 'active'.
-- Whoever was faster has declared the same.
WITH retired AS (
  UPDATE polyplane.collection SET state = 'retired', switched_at = clock_timestamp()
  WHERE projection = %(projection)s AND generation < %(generation)s
    AND (state = 'building' OR state = %(state)s)
)
INSERT INTO polyplane.collection (name, projection, generation, version, definition, shape, state)
VALUES (%(name)s, %(projection)s, %(generation)s, %(version)s, %(definition)s, %(shape)s,
        %(state)s)
ON CONFLICT (projection, generation) DO NOTHING

-- name: fill_from
UPDATE polyplane.collection AS c SET begun = true, position =
  CASE WHEN c.position >= %(oldest)s THEN c.position ELSE %(position)s END
FROM polyplane.collection AS before
WHERE c.name = %(name)s AND before.name = c.name RETURNING c.position, before.begun

-- name: filled
-- Everybody follows it from where it is filled. Not when it was lost since that fill began.
WITH filled AS (
  UPDATE polyplane.collection SET filled_at = clock_timestamp()
  WHERE name = %(name)s AND position = %(position)s RETURNING name
)
INSERT INTO polyplane.projected AS p (collection, bucket, position, witness, witnessed)
SELECT name, bucket, %(position)s, witness, CASE WHEN witness IS NOT NULL THEN %(position)s END
FROM filled, unnest(%(buckets)s::int[], %(witnesses)s::text[]) AS u (bucket, witness)
ON CONFLICT (collection, bucket) DO UPDATE SET
  position = greatest(p.position, excluded.position),
  witness = coalesce(p.witness, excluded.witness),
  witnessed = CASE WHEN p.witness IS NULL THEN excluded.witnessed ELSE p.witnessed END
RETURNING bucket

-- name: build_again
WITH given_up AS (
  UPDATE polyplane.collection SET state = 'retired', switched_at = clock_timestamp()
  WHERE projection = %(projection)s AND state = 'building' AND name <> %(name)s
)
UPDATE polyplane.collection SET state = 'building', proven_at = NULL, error = ''
WHERE name = %(name)s AND state = 'retired'

-- name: proven
UPDATE polyplane.collection SET proven_at = clock_timestamp()
WHERE name = %(name)s AND state = 'building' RETURNING name

-- name: switch
-- Readers go from the one to the other in one transaction.
UPDATE polyplane.collection AS c
SET state = CASE WHEN c.name = n.name THEN 'active' ELSE 'retired' END,
    switched_at = clock_timestamp()
FROM polyplane.collection AS n
WHERE n.name = %(name)s AND n.state = 'building' AND n.proven_at IS NOT NULL
  AND c.projection = n.projection AND (c.name = n.name OR c.state = 'active')
RETURNING c.name

-- name: give_up
-- It equals truth no more, or never did: nobody goes back to it.
UPDATE polyplane.collection
SET state = 'retired', filled_at = NULL, error = %(error)s,
    switched_at = clock_timestamp()
WHERE name = %(name)s AND state <> 'active' RETURNING name

-- name: forget
WITH positions AS (DELETE FROM polyplane.projected WHERE collection = %(name)s),
dead_letters AS (DELETE FROM polyplane.dead WHERE collection = %(name)s)
DELETE FROM polyplane.collection WHERE name = %(name)s AND state = 'retired'
