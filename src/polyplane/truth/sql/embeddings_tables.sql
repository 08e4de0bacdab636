-- Vectors that cost money, kept so that the same text is not paid for twice; and what was spent.

-- `mac` is a keyed hash of the model, the tenant and the text; no text is here. `vector` is its float32
-- numbers, little-endian. A vector tells much of its text: it goes with the tenant, and when it has not
-- been used for a while. `used_at` is at most a day behind.
CREATE TABLE polyplane.embedding (
  mac       bytea PRIMARY KEY CHECK (length(mac) = 32),
  tenant_id text COLLATE "C" NOT NULL,
  vector    bytea NOT NULL,
  used_at   timestamptz NOT NULL DEFAULT clock_timestamp()
);
-- Numbers do not get smaller by compression; trying costs time.
ALTER TABLE polyplane.embedding ALTER COLUMN vector SET STORAGE EXTERNAL;
CREATE INDEX embedding_used ON polyplane.embedding (used_at);
CREATE INDEX embedding_tenant ON polyplane.embedding (tenant_id);

-- What the hashes are keyed with: made here, so that every process of the plane has the same.
CREATE TABLE polyplane.embedding_key (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  key bytea NOT NULL DEFAULT decode(replace(
        gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex')
);
INSERT INTO polyplane.embedding_key DEFAULT VALUES;

-- By day (UTC) and model. `cost` is in the currency of the price that was set on that day.
CREATE TABLE polyplane.embedding_usage (
  day      date NOT NULL,
  model    text NOT NULL,
  requests bigint NOT NULL DEFAULT 0,
  failed   bigint NOT NULL DEFAULT 0,
  texts    bigint NOT NULL DEFAULT 0,
  kept     bigint NOT NULL DEFAULT 0,
  tokens   bigint NOT NULL DEFAULT 0,
  cost     numeric NOT NULL DEFAULT 0,
  PRIMARY KEY (day, model)
);
