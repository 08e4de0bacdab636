-- Who did what: written once, in the transaction that does it, and never again. What a row says is
-- in `hash`; that no row was changed, taken away, put in or moved is what the seals prove.
-- No foreign keys: who is erased stays in it under an id that means nobody any more.
CREATE TABLE polyplane.audit (
  seq           bigint GENERATED ALWAYS AS IDENTITY (CACHE 1) PRIMARY KEY,
  xid           xid8 NOT NULL DEFAULT pg_current_xact_id(),
  at            timestamptz NOT NULL,
  tenant        text NOT NULL,
  actor         text NOT NULL,
  action        text NOT NULL,
  resource_type text NOT NULL,
  resource_id   text,
  before        jsonb,
  after         jsonb,
  detail        jsonb,
  request_id    text NOT NULL DEFAULT '',
  address       text NOT NULL DEFAULT '',
  outcome       text NOT NULL DEFAULT 'done',
  hash          bytea NOT NULL CHECK (length(hash) = 32)
);
CREATE INDEX audit_xid ON polyplane.audit (xid);
CREATE INDEX idx_audit_resource ON polyplane.audit (resource_type, resource_id, seq);
CREATE INDEX idx_audit_user ON polyplane.audit (actor, seq);
CREATE INDEX audit_tenant ON polyplane.audit (tenant, seq);
CREATE INDEX audit_at ON polyplane.audit USING brin (at);

-- Seal n: a Merkle root over the rows `seqs`, chained to seal n - 1, signed. `line` is all that is
-- signed, and the signature; the columns say the same to whoever seals on. All that was visible in
-- `snapshot` is under seals, and so are the rows of the last `pages` seals.
CREATE TABLE polyplane.audit_seal (
  number   bigint PRIMARY KEY CHECK (number > 0),
  seqs     int8multirange NOT NULL,
  snapshot pg_snapshot NOT NULL,
  pages    bigint NOT NULL,
  line     text NOT NULL
);

CREATE INDEX audit_seal_seqs ON polyplane.audit_seal USING gist (seqs);

-- Up to which seal a place outside has them.
CREATE TABLE polyplane.audit_exported (
  place  text PRIMARY KEY,
  number bigint NOT NULL
);

CREATE FUNCTION polyplane.audit_stays() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RAISE EXCEPTION 'audit is only ever added to' USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER audit_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON polyplane.audit
  FOR EACH STATEMENT EXECUTE FUNCTION polyplane.audit_stays();
CREATE TRIGGER audit_seal_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON polyplane.audit_seal
  FOR EACH STATEMENT EXECUTE FUNCTION polyplane.audit_stays();
REVOKE UPDATE, DELETE, TRUNCATE ON polyplane.audit, polyplane.audit_seal FROM PUBLIC;

-- The names that people know it by.
CREATE VIEW polyplane.audit_logs WITH (security_invoker = true) AS
SELECT encode(substring(hash FOR 16), 'hex')::uuid AS id,
       substring(actor FROM '^user:([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})$')::uuid AS user_id,
       action, resource_type, resource_id,
       jsonb_strip_nulls(jsonb_build_object(
         'actor', actor, 'tenant', tenant, 'before', before, 'after', after, 'detail', detail,
         'outcome', outcome)) AS details,
       at AS created_at
FROM polyplane.audit;
