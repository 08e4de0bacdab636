-- Who may come in: what is asked with every request, and what changes it.

-- name: secret
WITH made AS (
  INSERT INTO polyplane.identity_secret (secret) VALUES (%(secret)s::bytea)
  ON CONFLICT DO NOTHING RETURNING secret
)
SELECT secret FROM made UNION ALL SELECT secret FROM polyplane.identity_secret LIMIT 1

-- name: session
-- Whose session this is, with the organizations they are a member of, the first first. Nothing
-- when it has ended, or they are disabled.
SELECT s.id, s.user_id, u.is_administrator,
       s.used_at < clock_timestamp() - interval '60 seconds',
       ARRAY(SELECT ARRAY[m.tenant_id, m.role] FROM polyplane.members m
             WHERE m.user_id = s.user_id ORDER BY m.created_at, m.tenant_id LIMIT 1000)
FROM polyplane.sessions s JOIN polyplane.users u ON u.id = s.user_id
WHERE s.token_hash = %(hash)s::bytea AND u.status = 'active'
  AND s.expires_at > clock_timestamp()
  AND s.used_at > clock_timestamp() - make_interval(secs => %(idle_s)s::float8)

-- name: session_used
UPDATE polyplane.sessions SET used_at = clock_timestamp()
WHERE token_hash = %(hash)s::bytea AND used_at < clock_timestamp() - interval '60 seconds'

-- name: key
-- What a key may be used for: its own role, or the role that its user has now.
SELECT k.secret_hash, k.user_id, k.tenant_id, coalesce(k.role, m.role), k.scopes,
       k.used_at IS NULL OR k.used_at < clock_timestamp() - interval '60 seconds'
FROM polyplane.api_keys k
LEFT JOIN polyplane.users u ON u.id = k.user_id
LEFT JOIN polyplane.members m ON m.user_id = k.user_id AND m.tenant_id = k.tenant_id
WHERE k.id = %(id)s::text AND k.expires_at > clock_timestamp()
  AND (k.user_id IS NULL OR (u.status = 'active' AND m.role IS NOT NULL))

-- name: key_used
UPDATE polyplane.api_keys SET used_at = clock_timestamp()
WHERE id = %(id)s::text
  AND (used_at IS NULL OR used_at < clock_timestamp() - interval '60 seconds')

-- name: credentials_of
-- What a cached answer may be kept under: of one user.
SELECT 'session' AS kind, token_hash AS hashed FROM polyplane.sessions WHERE user_id = %(user)s::uuid
UNION ALL
SELECT 'apikey', secret_hash FROM polyplane.api_keys WHERE user_id = %(user)s::uuid

-- name: attempt
-- Counts an attempt before it is made; nothing when it has to wait.
INSERT INTO polyplane.sign_in_attempts AS a (account, origin, failures, failed_at, blocked_until)
VALUES (%(account)s::bytea, %(origin)s::text, 1, clock_timestamp(),
        clock_timestamp() + make_interval(secs => (%(waits)s::float8[])[1]))
ON CONFLICT (account, origin) DO UPDATE SET
  (failures, failed_at, blocked_until) = (
    SELECT n, clock_timestamp(), clock_timestamp() + make_interval(secs =>
             (%(waits)s::float8[])[least(n, cardinality(%(waits)s::float8[]))])
    FROM (SELECT CASE WHEN a.failed_at < clock_timestamp()
                           - make_interval(secs => %(forget_s)s::float8)
                      THEN 1 ELSE a.failures + 1 END) counted (n))
WHERE a.blocked_until <= clock_timestamp()
RETURNING failures

-- name: wait
SELECT greatest(0, extract(epoch FROM blocked_until - clock_timestamp()))::float8
FROM polyplane.sign_in_attempts WHERE account = %(account)s::bytea AND origin = %(origin)s::text

-- name: forgive
DELETE FROM polyplane.sign_in_attempts
WHERE account = %(account)s::bytea AND origin = %(origin)s::text

-- name: uncount
UPDATE polyplane.sign_in_attempts
SET failures = greatest(0, failures - 1), blocked_until = clock_timestamp()
WHERE account = %(account)s::bytea AND origin = %(origin)s::text

-- name: sweep_attempts
DELETE FROM polyplane.sign_in_attempts WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM polyplane.sign_in_attempts
  WHERE failed_at < clock_timestamp() - interval '1 day' LIMIT 1000))

-- name: account
SELECT id, password_hash FROM polyplane.users
WHERE email_key = %(email_key)s::text AND status = 'active'

-- name: still
-- The user, if they may still sign in with the password that was checked; nobody changes them until
-- the transaction ends.
SELECT id FROM polyplane.users
WHERE id = %(user)s::uuid AND status = 'active' AND password_hash = %(password_hash)s::text
FOR NO KEY UPDATE

-- name: rehash
UPDATE polyplane.users SET password_hash = %(password_hash)s::text WHERE id = %(user)s::uuid

-- name: make_session
INSERT INTO polyplane.sessions (user_id, token_hash, expires_at, address, agent)
VALUES (%(user)s::uuid, %(hash)s::bytea,
        clock_timestamp() + make_interval(secs => %(max_s)s::float8), %(address)s, %(agent)s)
RETURNING id, expires_at

-- name: sweep_sessions
-- Sessions of one user that have ended, or are too many.
DELETE FROM polyplane.sessions WHERE user_id = %(user)s::uuid AND (
  expires_at <= clock_timestamp()
  OR used_at <= clock_timestamp() - make_interval(secs => %(idle_s)s::float8)
  OR id IN (SELECT id FROM polyplane.sessions WHERE user_id = %(user)s::uuid
            ORDER BY used_at DESC, id OFFSET %(keep)s::int))
RETURNING token_hash

-- name: sessions
SELECT id, created_at, used_at, expires_at, address, agent FROM polyplane.sessions
WHERE user_id = %(user)s::uuid AND expires_at > clock_timestamp()
  AND used_at > clock_timestamp() - make_interval(secs => %(idle_s)s::float8)
ORDER BY used_at DESC, id

-- name: end_session
DELETE FROM polyplane.sessions WHERE id = %(id)s::uuid AND user_id = %(user)s::uuid
RETURNING token_hash

-- name: end_sessions
DELETE FROM polyplane.sessions
WHERE user_id = %(user)s::uuid AND id IS DISTINCT FROM %(but)s::uuid
RETURNING token_hash

-- name: set_password
UPDATE polyplane.users SET password_hash = %(password_hash)s::text, updated_at = clock_timestamp()
WHERE id = %(user)s::uuid RETURNING id

-- name: user
SELECT id, email, name, status, is_administrator, created_at, updated_at, password_hash
FROM polyplane.users WHERE id = %(user)s::uuid

-- name: users
SELECT id, email, name, status, is_administrator, created_at, updated_at FROM polyplane.users
WHERE %(after)s::uuid IS NULL OR id > %(after)s::uuid
ORDER BY id LIMIT %(limit)s::int

-- name: find_user
SELECT id FROM polyplane.users WHERE email_key = %(email_key)s::text

-- name: memberships
SELECT m.tenant_id, o.name, m.role
FROM polyplane.members m JOIN polyplane.organizations o ON o.id = m.tenant_id
WHERE m.user_id = %(user)s::uuid ORDER BY m.created_at, m.tenant_id LIMIT 1000

-- name: only_one
-- One at a time: there is one first administrator.
SELECT pg_advisory_xact_lock(hashtextextended(%(what)s::text, 6))

-- name: has_administrator
SELECT EXISTS (SELECT FROM polyplane.users WHERE is_administrator)

-- name: other_administrators
SELECT count(*) FROM polyplane.users
WHERE is_administrator AND status = 'active' AND id <> %(user)s::uuid

-- name: add_user
-- Nothing when the address is taken.
INSERT INTO polyplane.users (email, email_key, name, password_hash, is_administrator)
VALUES (%(email)s, %(email_key)s, %(name)s, %(password_hash)s::text, %(is_administrator)s::bool)
ON CONFLICT (email_key) DO NOTHING RETURNING id

-- name: hold_user
-- Nobody signs in as them, or makes a key of theirs, until the transaction ends.
SELECT id FROM polyplane.users WHERE id = %(user)s::uuid FOR UPDATE

-- name: set_status
UPDATE polyplane.users SET status = %(status)s::text, updated_at = clock_timestamp()
WHERE id = %(user)s::uuid RETURNING is_administrator

-- name: set_administrator
UPDATE polyplane.users
SET is_administrator = %(is_administrator)s::bool, updated_at = clock_timestamp()
WHERE id = %(user)s::uuid RETURNING id

-- name: delete_user
DELETE FROM polyplane.users WHERE id = %(user)s::uuid RETURNING id

-- name: organizations
SELECT id, name, created_at FROM polyplane.organizations
WHERE id > %(after)s::text ORDER BY id LIMIT %(limit)s::int

-- name: organization
SELECT id, name, created_at FROM polyplane.organizations WHERE id = %(tenant)s::text

-- name: add_organization
INSERT INTO polyplane.organizations (id, name) VALUES (%(tenant)s, %(name)s)
RETURNING id, name, created_at

-- name: hold_organization
-- Whoever changes members waits here for who does, too.
SELECT id FROM polyplane.organizations WHERE id = %(tenant)s::text FOR NO KEY UPDATE

-- name: members
SELECT m.user_id, u.email, u.name, u.status, m.role, m.created_at
FROM polyplane.members m JOIN polyplane.users u ON u.id = m.user_id
WHERE m.tenant_id = %(tenant)s::text
  AND (%(after)s::uuid IS NULL OR m.user_id > %(after)s::uuid)
ORDER BY m.user_id LIMIT %(limit)s::int

-- name: member
SELECT role FROM polyplane.members
WHERE tenant_id = %(tenant)s::text AND user_id = %(user)s::uuid

-- name: other_owners
SELECT count(*) FROM polyplane.members
WHERE tenant_id = %(tenant)s::text AND role = 'owner' AND user_id <> %(user)s::uuid

-- name: set_member
INSERT INTO polyplane.members (user_id, tenant_id, role)
VALUES (%(user)s::uuid, %(tenant)s, %(role)s)
ON CONFLICT (user_id, tenant_id)
DO UPDATE SET role = excluded.role, updated_at = clock_timestamp()

-- name: remove_member
DELETE FROM polyplane.members WHERE tenant_id = %(tenant)s::text AND user_id = %(user)s::uuid

-- name: remove_keys
DELETE FROM polyplane.api_keys
WHERE tenant_id = %(tenant)s::text AND user_id = %(user)s::uuid RETURNING secret_hash

-- name: live_keys
SELECT count(*) FROM polyplane.api_keys
WHERE tenant_id = %(tenant)s::text AND client = %(client)s::text
  AND user_id IS NOT DISTINCT FROM %(user)s::uuid AND expires_at > clock_timestamp()

-- name: make_key
INSERT INTO polyplane.api_keys
  (id, tenant_id, client, user_id, role, scopes, secret_hash, made_by, expires_at)
VALUES (%(id)s, %(tenant)s, %(client)s, %(user)s::uuid, %(role)s::text, %(scopes)s::text[],
        %(hash)s::bytea, %(made_by)s, clock_timestamp() + make_interval(secs => %(expires_s)s::float8))
RETURNING created_at, expires_at

-- name: keys
SELECT id, client, user_id, role, scopes, made_by, created_at, expires_at, used_at
FROM polyplane.api_keys
WHERE tenant_id = %(tenant)s::text AND id > %(after)s::text
  AND (%(user)s::uuid IS NULL OR user_id = %(user)s::uuid)
ORDER BY id LIMIT %(limit)s::int

-- name: end_key
-- Of one user only, when one is given.
DELETE FROM polyplane.api_keys WHERE id = %(id)s::text AND tenant_id = %(tenant)s::text
  AND (%(user)s::uuid IS NULL OR user_id = %(user)s::uuid)
RETURNING secret_hash, client

-- name: sweep_keys
DELETE FROM polyplane.api_keys
WHERE tenant_id = %(tenant)s::text AND expires_at < clock_timestamp() - interval '30 days'
