-- Files: one row each; the content is an object in the object store. A row is pending until all of
-- its content is durable, and stays as deleted until the object is gone.
CREATE TABLE polyplane.blob (
  id              uuid PRIMARY KEY DEFAULT polyplane.new_key(),
  tenant_id       text NOT NULL DEFAULT 'default',
  name            text NOT NULL,
  content_type    text NOT NULL,
  state           text NOT NULL DEFAULT 'pending'
                  CHECK (state IN ('pending', 'committed', 'deleted')),
  bucket          text NOT NULL,
  key             text COLLATE "C" NOT NULL,
  upload          text,
  idempotency_key text,
  size            bigint,
  sha256          bytea,
  etag            text,
  version         text,
  fault           text NOT NULL DEFAULT '' CHECK (fault IN ('', 'lost', 'damaged')),
  created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
  expires_at      timestamptz,
  committed_at    timestamptz,
  deleted_at      timestamptz,
  -- What other tables refer to: so they can refer to committed blobs only, and hold them.
  committed_id    uuid UNIQUE GENERATED ALWAYS AS (CASE WHEN state = 'committed' THEN id END) STORED,
  CHECK (state <> 'committed' OR (size IS NOT NULL AND length(sha256) = 32 AND etag IS NOT NULL
                                  AND version IS NOT NULL AND committed_at IS NOT NULL)),
  CHECK (state <> 'pending' OR expires_at IS NOT NULL),
  CHECK (state <> 'deleted' OR deleted_at IS NOT NULL)
);
CREATE UNIQUE INDEX blob_idempotency_key ON polyplane.blob (tenant_id, idempotency_key)
  WHERE idempotency_key IS NOT NULL AND state <> 'deleted';
CREATE INDEX blob_tenant ON polyplane.blob (tenant_id, id);
CREATE INDEX blob_content ON polyplane.blob (tenant_id, sha256) WHERE state = 'committed';
CREATE INDEX blob_key ON polyplane.blob (key, id);
CREATE INDEX blob_deleted ON polyplane.blob (deleted_at) WHERE state = 'deleted';
CREATE INDEX blob_pending ON polyplane.blob (expires_at) WHERE state = 'pending';

-- The parts of a pending blob that the object store has acknowledged. `prefix_sha256` is the digest
-- of all content up to the end of the part.
CREATE TABLE polyplane.blob_part (
  blob          uuid NOT NULL REFERENCES polyplane.blob ON DELETE CASCADE,
  number        int NOT NULL,
  size          bigint NOT NULL,
  etag          text NOT NULL,
  prefix_sha256 bytea NOT NULL,
  PRIMARY KEY (blob, number)
);
