-- Sagas. One row each, and one per step that is done; every statement runs in one transaction.

-- `marks` are the steps as they were declared when it began; `at` is the step it is at, since
-- `since`, which has failed `attempt` times. Nobody but `holder` goes on with it before `wake_at`: its
-- lease, or when it is due. The fence grows with every take-over; `entered` is the fence under which
-- it came to its step. `news` counts what others have told it. `adopt`: somebody wishes it to go on by
-- what is declared now. `error`: the last one, or why all is undone; `undo_error` of the last undo.
CREATE TABLE polyplane.saga (
  id          uuid PRIMARY KEY DEFAULT polyplane.new_key(),
  tenant_id   text NOT NULL DEFAULT 'default',
  name        text NOT NULL,
  key         text,
  version     int NOT NULL,
  marks       json NOT NULL,
  input       json NOT NULL,
  actor       text NOT NULL DEFAULT '',
  state       text NOT NULL DEFAULT 'running'
    CHECK (state IN ('running', 'undoing', 'done', 'undone', 'stuck', 'changed')),
  at          text NOT NULL,
  since       timestamptz NOT NULL DEFAULT clock_timestamp(),
  attempt     int NOT NULL DEFAULT 0,
  entered     bigint NOT NULL DEFAULT 1,
  fence       bigint NOT NULL DEFAULT 0,
  holder      uuid,
  wake_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
  news        int NOT NULL DEFAULT 0,
  cancelled   text,
  adopt       boolean NOT NULL DEFAULT false,
  error       text NOT NULL DEFAULT '',
  undo_error  text NOT NULL DEFAULT '',
  deadline_at timestamptz,
  started_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
  ended_at    timestamptz,
  UNIQUE (tenant_id, name, key)
) WITH (fillfactor = 70);
-- A step that is done changes no indexed column.
CREATE INDEX saga_due ON polyplane.saga (wake_at) WHERE state IN ('running', 'undoing');
CREATE INDEX saga_latest ON polyplane.saga (started_at, id);
CREATE INDEX saga_open ON polyplane.saga (state, started_at) WHERE ended_at IS NULL;
CREATE INDEX saga_ended ON polyplane.saga (ended_at) WHERE ended_at IS NOT NULL;

CREATE TABLE polyplane.saga_step (
  saga      uuid NOT NULL,
  n         int NOT NULL,
  name      text NOT NULL,
  version   int NOT NULL,
  outcome   text NOT NULL CHECK (outcome IN ('done', 'unknown')),
  attempts  int NOT NULL,
  result    json,
  token     text,
  at        timestamptz NOT NULL DEFAULT clock_timestamp(),
  undone_at timestamptz,
  PRIMARY KEY (saga, n)
);

CREATE TABLE polyplane.saga_signal (
  saga    uuid NOT NULL,
  name    text NOT NULL,
  payload json,
  at      timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (saga, name)
);

-- A step is done, and which is next; `next` is '' after the last one. The saga is done then, unless it
-- was cancelled meanwhile. Raises PF001 when the fence is another one, and takes the step's own
-- writes with it. Returns the transaction's number, and whether the saga was cancelled.
CREATE FUNCTION polyplane.saga_done(
  _saga uuid, _fence bigint, _n int, _name text, _version int, _attempts int, _result json,
  _epoch int, _next text, OUT cancelled text, OUT ended boolean, OUT news int, OUT token text,
  OUT now timestamptz
) LANGUAGE plpgsql AS $$
BEGIN
  now = clock_timestamp();
  UPDATE polyplane.saga s
  SET at = _next, since = now, attempt = 0, error = '', entered = s.fence,
      state = CASE WHEN _next = '' AND s.cancelled IS NULL THEN 'done' ELSE s.state END,
      ended_at = CASE WHEN _next = '' AND s.cancelled IS NULL THEN now END,
      holder = CASE WHEN _next = '' AND s.cancelled IS NULL THEN NULL ELSE s.holder END
  WHERE s.id = _saga AND s.fence = _fence AND s.state = 'running' AND s.at = _name
  RETURNING s.cancelled, s.ended_at IS NOT NULL, s.news INTO cancelled, ended, news;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'another process has this saga' USING ERRCODE = 'PF001';
  END IF;
  token = _epoch || '.' || pg_current_xact_id()::text;
  INSERT INTO polyplane.saga_step (saga, n, name, version, outcome, attempts, result, token, at)
  VALUES (_saga, _n, _name, _version, 'done', _attempts, _result,
          CASE WHEN _epoch > 0 THEN token END, now);
END $$;

-- The undo of step `_n` is done, and which is next; with '' all is undone. Raises as saga_done.
CREATE FUNCTION polyplane.saga_undone(_saga uuid, _fence bigint, _n int, _next text)
  RETURNS int LANGUAGE plpgsql AS $$
DECLARE
  _news int;
BEGIN
  UPDATE polyplane.saga s
  SET at = _next, since = clock_timestamp(), attempt = 0,
      state = CASE WHEN _next = '' THEN 'undone' ELSE s.state END,
      ended_at = CASE WHEN _next = '' THEN clock_timestamp() END,
      holder = CASE WHEN _next = '' THEN NULL ELSE s.holder END
  WHERE s.id = _saga AND s.fence = _fence AND s.state = 'undoing'
  RETURNING s.news INTO _news;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'another process has this saga' USING ERRCODE = 'PF001';
  END IF;
  UPDATE polyplane.saga_step SET undone_at = clock_timestamp()
  WHERE saga = _saga AND n = _n AND undone_at IS NULL;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'this step is undone already' USING ERRCODE = 'PF001';
  END IF;
  RETURN _news;
END $$;

-- What a saga waits for, or will; only the first is kept. One of: first, again, never, ended, undoing;
-- NULL when there is no such saga.
CREATE FUNCTION polyplane.saga_tell(_saga uuid, _name text, _payload json)
  RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  _row record;
BEGIN
  SELECT s.state, s.marks INTO _row FROM polyplane.saga s WHERE s.id = _saga FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    RETURN NULL;
  ELSIF NOT EXISTS (SELECT FROM json_array_elements(_row.marks) AS mark
                    WHERE mark ->> 'name' = _name AND mark ->> 'kind' = 'signal') THEN
    RETURN 'never';
  ELSIF EXISTS (SELECT FROM polyplane.saga_signal g WHERE g.saga = _saga AND g.name = _name) THEN
    RETURN 'again';
  ELSIF _row.state IN ('done', 'undone') THEN
    RETURN 'ended';
  ELSIF _row.state IN ('undoing', 'stuck') THEN
    RETURN 'undoing';
  END IF;
  INSERT INTO polyplane.saga_signal (saga, name, payload) VALUES (_saga, _name, _payload);
  UPDATE polyplane.saga s
  SET news = s.news + 1,
      wake_at = CASE WHEN s.holder IS NULL THEN clock_timestamp() ELSE s.wake_at END
  WHERE s.id = _saga;
  RETURN 'first';
END $$;
