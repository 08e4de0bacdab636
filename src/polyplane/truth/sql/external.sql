-- Who somebody is elsewhere.

-- name: known
-- The user that a provider's identity is, whatever their status.
SELECT e.user_id, u.email_key
FROM polyplane.external_identities e JOIN polyplane.users u ON u.id = e.user_id
WHERE e.issuer = %(issuer)s::text AND e.subject = %(subject)s::text

-- name: still
-- The user, if they may sign in by this identity; nobody changes or unlinks them until the
-- transaction ends.
SELECT u.id FROM polyplane.users u JOIN polyplane.external_identities e ON e.user_id = u.id
WHERE u.id = %(user)s::uuid AND u.status = 'active'
  AND e.issuer = %(issuer)s::text AND e.subject = %(subject)s::text
FOR NO KEY UPDATE

-- name: used
UPDATE polyplane.external_identities SET used_at = clock_timestamp()
WHERE issuer = %(issuer)s::text AND subject = %(subject)s::text

-- name: by_email
-- Who has an address, and whether it alone is no proof: they have a password, or power over all.
SELECT id, email_key, status, password_hash IS NOT NULL OR is_administrator AS needs_proof
FROM polyplane.users WHERE email_key = %(email_key)s::text FOR NO KEY UPDATE

-- name: link
-- Nothing when the identity is somebody's already.
INSERT INTO polyplane.external_identities (issuer, subject, user_id)
VALUES (%(issuer)s, %(subject)s, %(user)s::uuid)
ON CONFLICT (issuer, subject) DO NOTHING RETURNING id

-- name: proven
-- The user whose session it is, as long as it has not ended.
SELECT u.id FROM polyplane.users u JOIN polyplane.sessions s ON s.user_id = u.id
WHERE u.id = %(user)s::uuid AND u.status = 'active' AND s.id = %(session)s::uuid
  AND s.expires_at > clock_timestamp()
  AND s.used_at > clock_timestamp() - make_interval(secs => %(idle_s)s::float8)
FOR NO KEY UPDATE OF u

-- name: of_user
SELECT id, issuer, subject, created_at, used_at FROM polyplane.external_identities
WHERE user_id = %(user)s::uuid ORDER BY id LIMIT 100

-- name: other_ways
-- Whether somebody can still sign in without this identity.
SELECT u.password_hash IS NOT NULL OR EXISTS (
  SELECT FROM polyplane.external_identities e
  WHERE e.user_id = u.id AND e.id <> %(id)s::uuid)
FROM polyplane.users u WHERE u.id = %(user)s::uuid

-- name: unlink
DELETE FROM polyplane.external_identities
WHERE id = %(id)s::uuid AND user_id = %(user)s::uuid RETURNING issuer
