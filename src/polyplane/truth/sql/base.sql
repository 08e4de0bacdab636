-- The plane's own tables. Applied as one migration; every statement runs in one transaction.

CREATE SCHEMA IF NOT EXISTS polyplane;

-- UUIDv7 where the server has it (PostgreSQL 18), else a random UUID.
DO $$
BEGIN
  IF current_setting('server_version_num')::int >= 180000 THEN
    CREATE FUNCTION polyplane.new_key() RETURNS uuid LANGUAGE sql VOLATILE AS 'SELECT uuidv7()';
  ELSE
    CREATE FUNCTION polyplane.new_key() RETURNS uuid LANGUAGE sql VOLATILE
      AS 'SELECT gen_random_uuid()';
  END IF;
END $$;

-- One row per captured statement and at most 1,000 keys (op I, U, D, T), or one domain event (E),
-- or keys to be projected again though nobody has written them (R; C: in the place of whatever is
-- held, where that is ahead of every change).
-- seq is taken while the row locks are held (CACHE 1), hence it is monotonic per key.
CREATE TABLE polyplane.outbox (
  seq  bigint GENERATED ALWAYS AS IDENTITY (CACHE 1) NOT NULL,
  xid  xid8 NOT NULL DEFAULT pg_current_xact_id(),
  tbl  text NOT NULL,
  op   "char" NOT NULL,
  keys text[] NOT NULL DEFAULT '{}',
  body jsonb,
  at   timestamptz NOT NULL DEFAULT now()
) PARTITION BY RANGE (seq);
-- Keys are written once, read once and dropped with their partition: not worth compressing.
ALTER TABLE polyplane.outbox ALTER COLUMN keys SET STORAGE EXTERNAL;
CREATE INDEX outbox_xid ON polyplane.outbox (xid, seq);
CREATE TABLE polyplane.outbox_1 PARTITION OF polyplane.outbox
  FOR VALUES FROM (MINVALUE) TO (10000000);
-- Writers must never fail because nobody made the next partition in time.
CREATE TABLE polyplane.outbox_rest PARTITION OF polyplane.outbox DEFAULT;

-- Who the plane is: the epoch goes up whenever xids or stream sequences may have gone back.
CREATE TABLE polyplane.identity (
  only_row          boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  epoch             int NOT NULL DEFAULT 1,
  system_identifier text NOT NULL
);
INSERT INTO polyplane.identity (system_identifier)
  SELECT system_identifier::text FROM pg_control_system();

-- Leadership: a lease row with a fence that grows with each take-over.
CREATE TABLE polyplane.lease (
  name       text PRIMARY KEY,
  holder     uuid NOT NULL,
  fence      bigint NOT NULL,
  expires_at timestamptz NOT NULL
);

-- What the relay has published: everything visible in `snapshot`, and of what is visible in `cur`
-- besides (if it is within a window) up to the row `upto`; where that ended in both streams; and per
-- (tbl, bucket) the last order.
CREATE TABLE polyplane.relayed (
  only_row    boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  epoch       int NOT NULL,
  snapshot    pg_snapshot NOT NULL,
  cur         pg_snapshot,
  upto        bigint,
  changes_end bigint NOT NULL,
  events_end  bigint NOT NULL
);
CREATE TABLE polyplane.tail (
  tbl    text NOT NULL,
  bucket int NOT NULL,
  "order" bigint NOT NULL,
  PRIMARY KEY (tbl, bucket)
) WITH (fillfactor = 50);

-- Where each collection stands, per bucket: everything up to `position` is durable in its store.
-- The store holds the key `witness` with the position `witnessed` or a newer one, or it went back.
CREATE TABLE polyplane.projected (
  collection text NOT NULL,
  bucket     int NOT NULL,
  position   bigint NOT NULL,
  witness    text,
  witnessed  bigint,
  PRIMARY KEY (collection, bucket)
) WITH (fillfactor = 50);

-- The generations of each projection's collection: one is read, one may be built beside it, and what
-- was read before is kept for a while. `shape` is what a store must know to read it.
CREATE TABLE polyplane.collection (
  name        text PRIMARY KEY,
  projection  text NOT NULL,
  generation  int NOT NULL,
  version     int NOT NULL,
  definition  text NOT NULL,
  shape       jsonb NOT NULL,
  state       text NOT NULL CHECK (state IN ('building', 'active', 'retired')),
  begun       boolean NOT NULL DEFAULT false,
  position    bigint,
  filled_at   timestamptz,
  proven_at   timestamptz,
  switched_at timestamptz,
  error       text NOT NULL DEFAULT '',
  UNIQUE (projection, generation),
  CONSTRAINT one_of_each EXCLUDE (projection WITH =, state WITH =) WHERE (state <> 'retired')
    DEFERRABLE INITIALLY DEFERRED
);

-- Ranges of stream sequences, written down before their insert; the name is the insert's token.
-- And what is in them, which the store must hold from then on: per batch its identity, its number
-- of points, and between which times (microseconds since 1970) they lie.
CREATE TABLE polyplane.ingested (
  stream   text NOT NULL,
  epoch    int NOT NULL,
  first    bigint NOT NULL,
  last     bigint NOT NULL,
  stored   boolean NOT NULL DEFAULT false,
  batches  bigint[] NOT NULL DEFAULT '{}',
  points   bigint[] NOT NULL DEFAULT '{}',
  oldest   bigint[] NOT NULL DEFAULT '{}',
  newest   bigint[] NOT NULL DEFAULT '{}',
  PRIMARY KEY (stream, epoch, first)
);

-- Keys of bad rows, left aside so that their bucket goes on, until a later try at them works.
CREATE TABLE polyplane.dead (
  collection  text NOT NULL,
  key         text COLLATE "C" NOT NULL,
  bucket      int NOT NULL,
  error       text NOT NULL,
  attempts    int NOT NULL DEFAULT 1,
  first_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
  last_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
  next_try_at timestamptz NOT NULL,
  PRIMARY KEY (collection, key)
);
CREATE INDEX dead_next ON polyplane.dead (collection, next_try_at);
