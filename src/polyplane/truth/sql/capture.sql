-- Statement-level capture of one table; truth/capture.py fills in the quoted names and `key`, the
-- expression for the canonical text of a row's key (alias r, of an old row o), with the `settings`
-- its text depends on. At most 1,000 keys an outbox row. Most statements write one row: its key goes
-- in by the first INSERT, the plainest there is, since whatever it asks besides costs a commit
-- several microseconds. It takes two rows where there are more; by that is known that all the others
-- are to follow. `SET search_path` would cost as much, hence every name and operator is qualified:
-- a writer's search_path finds nothing to replace. A transaction that is captured is never committed
-- lazily (`durable`): stores would be told what a crash takes back, and its xid be given to another.
-- Of a table whose rows are somebody's, what is deleted says whose it was (`body`): nobody else can
-- be told afterwards that it was there.

CREATE OR REPLACE FUNCTION {insert}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER{settings}
AS $body$
DECLARE told int;
BEGIN
  INSERT INTO polyplane.outbox (tbl, op, keys)
  SELECT {name}, 'I', ARRAY[{key}] FROM new_rows r WHERE {durable} LIMIT 2;
  GET DIAGNOSTICS told = ROW_COUNT;
  IF told OPERATOR(pg_catalog.=) 2 THEN
    INSERT INTO polyplane.outbox (tbl, op, keys)
    SELECT {name}, 'I', pg_catalog.array_agg(s.k)
    FROM (SELECT {key} AS k, pg_catalog.row_number() OVER () AS n FROM new_rows r OFFSET 2) s
    GROUP BY (s.n OPERATOR(pg_catalog.-) 3) OPERATOR(pg_catalog./) 1000;
  END IF;
  RETURN NULL;
END $body$;

-- Of one row: its key, and the one it had before where that is another. Of more: the pairs of the
-- first new row with two old ones, and all keys again, since a union has no order to go on in.
CREATE OR REPLACE FUNCTION {update}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER{settings}
AS $body$
DECLARE told int;
BEGIN
  INSERT INTO polyplane.outbox (tbl, op, keys)
  SELECT {name}, 'U',
         CASE WHEN {key} OPERATOR(pg_catalog.=) {old_key} THEN ARRAY[{key}]
              ELSE ARRAY[{key}, {old_key}] END
  FROM new_rows r, old_rows o WHERE {durable} LIMIT 2;
  GET DIAGNOSTICS told = ROW_COUNT;
  IF told OPERATOR(pg_catalog.=) 2 THEN
    INSERT INTO polyplane.outbox (tbl, op, keys)
    SELECT {name}, 'U', pg_catalog.array_agg(s.k)
    FROM (
      SELECT u.k, pg_catalog.row_number() OVER () AS n
      FROM (SELECT {key} AS k FROM new_rows r UNION SELECT {key} FROM old_rows r) u
    ) s
    GROUP BY (s.n OPERATOR(pg_catalog.-) 1) OPERATOR(pg_catalog./) 1000;
  END IF;
  RETURN NULL;
END $body$;

CREATE OR REPLACE FUNCTION {delete}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER{settings}
AS $body$
DECLARE told int;
BEGIN
  INSERT INTO polyplane.outbox (tbl, op, keys{body})
  SELECT {name}, 'D', ARRAY[{key}]{whose} FROM old_rows r WHERE {durable} LIMIT 2;
  GET DIAGNOSTICS told = ROW_COUNT;
  IF told OPERATOR(pg_catalog.=) 2 THEN
    INSERT INTO polyplane.outbox (tbl, op, keys{body})
    SELECT {name}, 'D', pg_catalog.array_agg(s.k){each}
    FROM (SELECT {key} AS k{named}, pg_catalog.row_number() OVER () AS n FROM old_rows r OFFSET 2) s
    GROUP BY (s.n OPERATOR(pg_catalog.-) 3) OPERATOR(pg_catalog./) 1000{each};
  END IF;
  RETURN NULL;
END $body$;

-- TRUNCATE has no transition table: the keys are read before they go, from a partition its own.
CREATE OR REPLACE FUNCTION {truncate}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp{settings} AS $body$
DECLARE tenant text := coalesce(current_setting('polyplane.tenant', true), '');
BEGIN
  PERFORM {durable}, set_config('polyplane.tenant', '', true);  -- all rows go, whoever acts
  EXECUTE $sql$
    INSERT INTO polyplane.outbox (tbl, op, keys{body})
    SELECT {name}, 'T', array_agg(k){each}
    FROM (SELECT {key} AS k{named}, row_number() OVER () AS n FROM $sql$ || TG_RELID::regclass || $sql$ r) s
    GROUP BY (n - 1) / 1000{each}
  $sql$;
  PERFORM set_config('polyplane.tenant', tenant, true);
  RETURN NULL;
END $body$;
