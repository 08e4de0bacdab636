-- Requests that come again under an Idempotency-Key.

-- name: claim
-- Whether nobody else is at work under this key, and what was answered under it before.
WITH claimed AS MATERIALIZED (
  SELECT pg_try_advisory_xact_lock(hashtextextended(
           jsonb_build_array(%(tenant)s::text, %(actor)s::text, %(key)s::text)::text, 8)) AS mine
)
SELECT c.mine, r.fingerprint, r.status, r.headers, r.body
FROM claimed c LEFT JOIN polyplane.repeat r
  ON r.tenant_id = %(tenant)s::text AND r.actor = %(actor)s::text AND r.key = %(key)s::text
 AND r.expires_at > clock_timestamp()

-- name: keep
-- Nothing when another transaction has answered under this key since the claim.
INSERT INTO polyplane.repeat AS r (tenant_id, actor, key, fingerprint, status, headers, body)
VALUES (%(tenant)s::text, %(actor)s::text, %(key)s::text, %(fingerprint)s::bytea, %(status)s::int,
        %(headers)s::jsonb, %(body)s::bytea)
ON CONFLICT (tenant_id, actor, key) DO UPDATE SET
  fingerprint = excluded.fingerprint, status = excluded.status, headers = excluded.headers,
  body = excluded.body, created_at = excluded.created_at, expires_at = excluded.expires_at
  WHERE r.expires_at <= clock_timestamp()
RETURNING 1

-- name: sweep
SELECT polyplane.sweep_repeats()
