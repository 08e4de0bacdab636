-- What was answered to requests under an Idempotency-Key, written by the transaction that did what they
-- asked for. A key means something to one actor in one tenant, for a day. `body` is NULL when the answer
-- was too large to keep.
CREATE TABLE polyplane.repeat (
  tenant_id   text COLLATE "C" NOT NULL,
  actor       text COLLATE "C" NOT NULL,
  key         text COLLATE "C" NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
  fingerprint bytea NOT NULL CHECK (length(fingerprint) = 32),
  status      int NOT NULL,
  headers     jsonb NOT NULL,
  body        bytea,
  created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
  expires_at  timestamptz NOT NULL DEFAULT clock_timestamp() + interval '24 hours',
  PRIMARY KEY (tenant_id, actor, key)
);
CREATE INDEX repeat_expires ON polyplane.repeat (expires_at);

-- Nobody sees another's answers. Its owner does, as long as it acts for nobody: to sweep.
ALTER TABLE polyplane.repeat ENABLE ROW LEVEL SECURITY;
ALTER TABLE polyplane.repeat FORCE ROW LEVEL SECURITY;
CREATE POLICY polyplane_tenant ON polyplane.repeat
  USING (tenant_id = (SELECT nullif(current_setting('polyplane.tenant', true), ''))
         AND actor = (SELECT nullif(current_setting('polyplane.actor', true), '')));
CREATE POLICY polyplane_program ON polyplane.repeat TO CURRENT_USER
  USING ((SELECT nullif(current_setting('polyplane.tenant', true), '')) IS NULL);

-- Forgets answers that have expired, some at a time; how many.
CREATE FUNCTION polyplane.sweep_repeats() RETURNS bigint
  LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  WITH gone AS (
    DELETE FROM polyplane.repeat WHERE ctid = ANY (ARRAY(
      SELECT ctid FROM polyplane.repeat WHERE expires_at <= clock_timestamp() LIMIT 1000
    )) RETURNING 1
  )
  SELECT count(*) FROM gone;
$$;
REVOKE EXECUTE ON FUNCTION polyplane.sweep_repeats() FROM PUBLIC;
