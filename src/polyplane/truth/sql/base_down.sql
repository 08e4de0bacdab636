-- Takes back base.sql and the capture that stands on it. No table of the user is touched: the first
-- line fails while a column's default still calls new_key(). The runner drops the empty schema.

DROP FUNCTION polyplane.new_key();

DO $$
DECLARE found regprocedure;
BEGIN
  FOR found IN
    SELECT p.oid FROM pg_proc p
    WHERE p.pronamespace = 'polyplane'::regnamespace AND p.proname LIKE 'capture\_%'
  LOOP
    EXECUTE format('DROP FUNCTION %s CASCADE', found);  -- and its triggers
  END LOOP;
END $$;

DROP TABLE polyplane.outbox, polyplane.identity, polyplane.lease, polyplane.relayed, polyplane.tail,
  polyplane.projected, polyplane.collection, polyplane.ingested, polyplane.dead;
