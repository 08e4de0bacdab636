-- Statement-level capture of one table; truth/capture.py fills in the quoted names and `key`, the
-- expression for the canonical text of a row's key (alias r), with the `settings` its text depends
-- on. At most 1,000 keys an outbox row. A transaction that is captured is never committed lazily:
-- stores would be told what a crash takes back, and its xid be given to another transaction.

CREATE OR REPLACE FUNCTION {insert}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp{settings} AS $body$
DECLARE found text[] := ARRAY(SELECT {key} FROM new_rows r);
BEGIN
  IF current_setting('synchronous_commit') = 'off' THEN
    PERFORM set_config('synchronous_commit', 'on', true);
  END IF;
  IF cardinality(found) BETWEEN 1 AND 1000 THEN
    INSERT INTO polyplane.outbox (tbl, op, keys) VALUES ({name}, 'I', found);
  ELSE
    INSERT INTO polyplane.outbox (tbl, op, keys)
    SELECT {name}, 'I', array_agg(k) FROM unnest(found) WITH ORDINALITY AS u (k, n)
    GROUP BY (n - 1) / 1000 ORDER BY (n - 1) / 1000;
  END IF;
  RETURN NULL;
END $body$;

CREATE OR REPLACE FUNCTION {update}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp{settings} AS $body$
DECLARE found text[] := ARRAY(SELECT {key} FROM new_rows r UNION SELECT {key} FROM old_rows r);
BEGIN
  IF current_setting('synchronous_commit') = 'off' THEN
    PERFORM set_config('synchronous_commit', 'on', true);
  END IF;
  IF cardinality(found) BETWEEN 1 AND 1000 THEN
    INSERT INTO polyplane.outbox (tbl, op, keys) VALUES ({name}, 'U', found);
  ELSE
    INSERT INTO polyplane.outbox (tbl, op, keys)
    SELECT {name}, 'U', array_agg(k) FROM unnest(found) WITH ORDINALITY AS u (k, n)
    GROUP BY (n - 1) / 1000 ORDER BY (n - 1) / 1000;
  END IF;
  RETURN NULL;
END $body$;

CREATE OR REPLACE FUNCTION {delete}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp{settings} AS $body$
DECLARE found text[] := ARRAY(SELECT {key} FROM old_rows r);
BEGIN
  IF current_setting('synchronous_commit') = 'off' THEN
    PERFORM set_config('synchronous_commit', 'on', true);
  END IF;
  IF cardinality(found) BETWEEN 1 AND 1000 THEN
    INSERT INTO polyplane.outbox (tbl, op, keys) VALUES ({name}, 'D', found);
  ELSE
    INSERT INTO polyplane.outbox (tbl, op, keys)
    SELECT {name}, 'D', array_agg(k) FROM unnest(found) WITH ORDINALITY AS u (k, n)
    GROUP BY (n - 1) / 1000 ORDER BY (n - 1) / 1000;
  END IF;
  RETURN NULL;
END $body$;

-- TRUNCATE has no transition table: the keys are read before they go, from a partition its own.
CREATE OR REPLACE FUNCTION {truncate}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp{settings} AS $body$
BEGIN
  IF current_setting('synchronous_commit') = 'off' THEN
    PERFORM set_config('synchronous_commit', 'on', true);
  END IF;
  EXECUTE $sql$
    INSERT INTO polyplane.outbox (tbl, op, keys)
    SELECT {name}, 'T', array_agg(k)
    FROM (SELECT {key} AS k, row_number() OVER () AS n FROM $sql$ || TG_RELID::regclass || $sql$ r) s
    GROUP BY (n - 1) / 1000
  $sql$;
  RETURN NULL;
END $body$;

CREATE OR REPLACE TRIGGER polyplane_insert AFTER INSERT ON {table}
  REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION {insert}();
CREATE OR REPLACE TRIGGER polyplane_update AFTER UPDATE ON {table}
  REFERENCING NEW TABLE AS new_rows OLD TABLE AS old_rows
  FOR EACH STATEMENT EXECUTE FUNCTION {update}();
CREATE OR REPLACE TRIGGER polyplane_delete AFTER DELETE ON {table}
  REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION {delete}();
CREATE OR REPLACE TRIGGER polyplane_truncate BEFORE TRUNCATE ON {table}
  FOR EACH STATEMENT EXECUTE FUNCTION {truncate}();
