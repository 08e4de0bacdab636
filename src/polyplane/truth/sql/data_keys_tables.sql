-- Data keys: what secrets are encrypted with, each wrapped with a key-encryption key that PostgreSQL
-- never sees. One for each person of a tenant, and one for the tenant itself (person ''). One that is
-- destroyed stays as a row without a key, so that it is known why nothing can be read.
CREATE TABLE polyplane.data_keys (
  id           uuid PRIMARY KEY,
  purpose      text NOT NULL CHECK (purpose IN ('secrets', 'digests')),
  tenant_id    text NOT NULL,
  person       text NOT NULL DEFAULT '',
  kek          text,
  wrapped      bytea,
  created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
  wrapped_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
  destroyed_at timestamptz,
  CONSTRAINT destroyed_is_gone CHECK (
    (wrapped IS NULL) = (destroyed_at IS NOT NULL) AND (kek IS NULL) = (wrapped IS NULL))
);
CREATE UNIQUE INDEX data_keys_of ON polyplane.data_keys (purpose, tenant_id, person)
  WHERE destroyed_at IS NULL;
CREATE INDEX data_keys_kek ON polyplane.data_keys (kek, id) WHERE destroyed_at IS NULL;
CREATE INDEX data_keys_person ON polyplane.data_keys (person) WHERE person <> '';
