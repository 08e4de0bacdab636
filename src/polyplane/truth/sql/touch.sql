-- Statement-level capture of a table on behalf of another one, whose keys its column holds: whatever
-- is written here is a change of the rows it belongs to, before and after. truth/touching.py fills in
-- the quoted names, `parent` (the other table's name in changes), `key` (the text of the column,
-- alias r) and `belongs` (the column holds a key at all). For the rest see capture.sql: these are its
-- triggers but for op R, and for keys that are told once a statement, however many rows hold them.

CREATE OR REPLACE FUNCTION {insert}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER{settings}
AS $body$
DECLARE told int;
BEGIN
  INSERT INTO polyplane.outbox (tbl, op, keys)
  SELECT {parent}, 'R', ARRAY(SELECT DISTINCT {key} FROM new_rows r WHERE {belongs} LIMIT 1000)
  WHERE EXISTS (SELECT FROM new_rows r WHERE {belongs}) AND ({durable})
  RETURNING pg_catalog.cardinality(keys) INTO told;
  IF told OPERATOR(pg_catalog.=) 1000 THEN  -- all of them again: a set has no order to go on in
    INSERT INTO polyplane.outbox (tbl, op, keys)
    SELECT {parent}, 'R', pg_catalog.array_agg(s.k)
    FROM (
      SELECT u.k, pg_catalog.row_number() OVER () AS n
      FROM (SELECT DISTINCT {key} AS k FROM new_rows r WHERE {belongs}) u
    ) s
    GROUP BY (s.n OPERATOR(pg_catalog.-) 1) OPERATOR(pg_catalog./) 1000;
  END IF;
  RETURN NULL;
END $body$;

CREATE OR REPLACE FUNCTION {update}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER{settings}
AS $body$
DECLARE told int;
BEGIN
  INSERT INTO polyplane.outbox (tbl, op, keys)
  SELECT {parent}, 'R', ARRAY(
    SELECT {key} FROM new_rows r WHERE {belongs} UNION SELECT {key} FROM old_rows r WHERE {belongs}
    LIMIT 1000
  )
  WHERE (
    EXISTS (SELECT FROM new_rows r WHERE {belongs}) OR EXISTS (SELECT FROM old_rows r WHERE {belongs})
  ) AND ({durable})
  RETURNING pg_catalog.cardinality(keys) INTO told;
  IF told OPERATOR(pg_catalog.=) 1000 THEN
    INSERT INTO polyplane.outbox (tbl, op, keys)
    SELECT {parent}, 'R', pg_catalog.array_agg(s.k)
    FROM (
      SELECT u.k, pg_catalog.row_number() OVER () AS n
      FROM (
        SELECT {key} AS k FROM new_rows r WHERE {belongs}
        UNION SELECT {key} FROM old_rows r WHERE {belongs}
      ) u
    ) s
    GROUP BY (s.n OPERATOR(pg_catalog.-) 1) OPERATOR(pg_catalog./) 1000;
  END IF;
  RETURN NULL;
END $body$;

CREATE OR REPLACE FUNCTION {delete}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER{settings}
AS $body$
DECLARE told int;
BEGIN
  INSERT INTO polyplane.outbox (tbl, op, keys)
  SELECT {parent}, 'R', ARRAY(SELECT DISTINCT {key} FROM old_rows r WHERE {belongs} LIMIT 1000)
  WHERE EXISTS (SELECT FROM old_rows r WHERE {belongs}) AND ({durable})
  RETURNING pg_catalog.cardinality(keys) INTO told;
  IF told OPERATOR(pg_catalog.=) 1000 THEN
    INSERT INTO polyplane.outbox (tbl, op, keys)
    SELECT {parent}, 'R', pg_catalog.array_agg(s.k)
    FROM (
      SELECT u.k, pg_catalog.row_number() OVER () AS n
      FROM (SELECT DISTINCT {key} AS k FROM old_rows r WHERE {belongs}) u
    ) s
    GROUP BY (s.n OPERATOR(pg_catalog.-) 1) OPERATOR(pg_catalog./) 1000;
  END IF;
  RETURN NULL;
END $body$;

CREATE OR REPLACE FUNCTION {truncate}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp{settings} AS $body$
DECLARE tenant text := coalesce(current_setting('polyplane.tenant', true), '');
BEGIN
  PERFORM {durable}, set_config('polyplane.tenant', '', true);  -- all rows go, whoever acts
  EXECUTE $sql$
    INSERT INTO polyplane.outbox (tbl, op, keys)
    SELECT {parent}, 'R', array_agg(k)
    FROM (
      SELECT k, row_number() OVER () AS n
      FROM (SELECT DISTINCT {key} AS k FROM $sql$ || TG_RELID::regclass || $sql$ r WHERE {belongs}) u
    ) s
    GROUP BY (n - 1) / 1000
  $sql$;
  PERFORM set_config('polyplane.tenant', tenant, true);
  RETURN NULL;
END $body$;
