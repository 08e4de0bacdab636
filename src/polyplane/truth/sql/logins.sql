-- The few things that are done to the outbox by logins that have no right on it, each by a function of
-- its owner's. Who may call which: security/grants.py. Every statement runs in one transaction.

-- Domain events, of the tenant that acts and of no other.
CREATE FUNCTION polyplane.emit(_types text[], _bodies jsonb[]) RETURNS void
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF EXISTS (SELECT FROM unnest(_bodies) AS b
             WHERE b ->> 'tenant' IS DISTINCT FROM current_setting('polyplane.tenant', true)) THEN
    RAISE EXCEPTION 'an event of another tenant' USING ERRCODE = 'insufficient_privilege';
  END IF;
  INSERT INTO polyplane.outbox (tbl, op, body)
  SELECT t, 'E', b FROM unnest(_types, _bodies) AS u (t, b);
END $$;

-- A change of rows that nobody has changed: their keys, in pieces as the triggers make them.
CREATE FUNCTION polyplane.touch(_table text, _keys text[], _ops text[]) RETURNS void
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF NOT _ops <@ ARRAY['R', 'C'] THEN
    RAISE EXCEPTION 'a touch is R or C' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  INSERT INTO polyplane.outbox (tbl, op, keys)
  SELECT _table, k.op::"char", array_agg(k.key ORDER BY k.n)
  FROM unnest(_keys, _ops) WITH ORDINALITY AS k (key, op, n)
  GROUP BY k.op, (k.n - 1) / 1000;
END $$;

-- The next partition of the outbox, which begins at a multiple of its length.
CREATE FUNCTION polyplane.make_partition(_start bigint) RETURNS void
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF _start <= 0 OR _start % 10000000 <> 0 THEN
    RAISE EXCEPTION 'no partition begins at %', _start USING ERRCODE = 'invalid_parameter_value';
  END IF;
  EXECUTE format(
    'CREATE TABLE IF NOT EXISTS polyplane.%I PARTITION OF polyplane.outbox FOR VALUES FROM (%s) TO (%s)',
    'outbox_' || _start / 10000000 + 1, _start, _start + 10000000);
END $$;

-- Drop the partitions that everything has passed: older than a day, visible to the relay's last
-- snapshot. Returns their names.
CREATE FUNCTION polyplane.drop_partitions() RETURNS SETOF text
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  _name text;
BEGIN
  FOREACH _name IN ARRAY ARRAY(  -- all of them first: nothing reads the outbox when one goes
    WITH partition AS (
      SELECT c.relname,
             (regexp_match(pg_get_expr(c.relpartbound, c.oid), 'TO \(''?(\d+)'))[1]::bigint AS upper
      FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
      WHERE i.inhparent = 'polyplane.outbox'::regclass AND c.relname <> 'outbox_rest'
    )
    SELECT p.relname
    FROM partition p, polyplane.outbox_seq_seq s,
         polyplane.relayed r JOIN polyplane.identity i ON i.epoch = r.epoch
    WHERE p.upper <= s.last_value AND NOT EXISTS (
      SELECT FROM polyplane.outbox o
      WHERE o.seq < p.upper
        AND (o.at > now() - interval '24 hours' OR NOT pg_visible_in_snapshot(o.xid, r.snapshot))
    )
  ) LOOP
    EXECUTE format('DROP TABLE polyplane.%I', _name);
    RETURN NEXT _name;
  END LOOP;
END $$;

REVOKE EXECUTE ON FUNCTION polyplane.emit(text[], jsonb[]), polyplane.touch(text, text[], text[]),
  polyplane.make_partition(bigint), polyplane.drop_partitions() FROM PUBLIC;
