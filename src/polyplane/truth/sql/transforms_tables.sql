-- Transformations. One row each, and one per row that nothing could be made of; every statement runs
-- in one transaction.

-- Rows are taken in the order of their keys, up to `after` by now. What was changed since is taken
-- again: all that is visible in `since` was; and within a window, of what is visible in `cur` besides
-- (if there is one), the changes up to number `upto`. Nobody but `holder` goes on with it before
-- `wake_at`; the fence grows with every take-over. `looked_at`: when the last window had ended.
CREATE TABLE polyplane.transformation (
  name       text PRIMARY KEY,
  version    int NOT NULL,
  actor      text NOT NULL DEFAULT '',
  state      text NOT NULL DEFAULT 'running'
    CHECK (state IN ('running', 'done', 'stopped', 'failed')),
  phase      text NOT NULL DEFAULT 'rows' CHECK (phase IN ('rows', 'changes', 'letters')),
  after      text,
  epoch      int NOT NULL,
  since      pg_snapshot NOT NULL DEFAULT pg_current_snapshot(),
  cur        pg_snapshot,
  upto       bigint NOT NULL DEFAULT 0,
  looked_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
  about      bigint NOT NULL DEFAULT 0,
  read       bigint NOT NULL DEFAULT 0,
  written    bigint NOT NULL DEFAULT 0,
  skipped    bigint NOT NULL DEFAULT 0,
  again      bigint NOT NULL DEFAULT 0,
  deleted    bigint NOT NULL DEFAULT 0,
  attempt    int NOT NULL DEFAULT 0,
  error      text NOT NULL DEFAULT '',
  fence      bigint NOT NULL DEFAULT 0,
  holder     uuid,
  wake_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
  started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  ended_at   timestamptz
) WITH (fillfactor = 50);

CREATE TABLE polyplane.transformation_dead (
  name     text NOT NULL,
  key      text COLLATE "C" NOT NULL,
  error    text NOT NULL,
  attempts int NOT NULL DEFAULT 1,
  first_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  last_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
  due      boolean NOT NULL DEFAULT false,
  PRIMARY KEY (name, key)
);
