-- No row begins as, or becomes, what it cannot be, whoever writes it: an application or psql.
-- The arguments of the trigger: status -> those that may follow; the status all begin as.
CREATE FUNCTION agents.check_move() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  moves jsonb := TG_ARGV[0];
BEGIN
  IF TG_OP = 'INSERT' THEN
    IF NEW.status <> TG_ARGV[1] THEN
      RAISE check_violation USING
        MESSAGE = format('A row of %I begins as %s, not as %s.', TG_TABLE_NAME, TG_ARGV[1], NEW.status),
        SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, CONSTRAINT = 'move_' || TG_TABLE_NAME;
    END IF;
  ELSIF NOT coalesce((moves -> OLD.status) ? NEW.status, false) THEN
    RAISE check_violation USING
      MESSAGE = format('What is %s cannot become %s in %I.', OLD.status, NEW.status, TG_TABLE_NAME),
      SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, CONSTRAINT = 'move_' || TG_TABLE_NAME;
  END IF;
  RETURN NEW;
END $$;

-- What is completed has all of its steps completed; what has ended has none at work.
CREATE FUNCTION agents.check_ended() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  completed int;
  at_work int;
BEGIN
  SELECT count(*) FILTER (WHERE status = 'completed'),
         count(*) FILTER (WHERE status IN ('pending', 'running', 'retrying'))
    INTO completed, at_work
    FROM agents.execution_steps WHERE operation_id = NEW.id;
  IF at_work > 0 OR NEW.status = 'completed' AND completed <> NEW.steps_total THEN
    RAISE check_violation USING
      MESSAGE = format('The operation %s has steps that are not over.', NEW.id),
      SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, CONSTRAINT = 'ended_operations';
  END IF;
  RETURN NEW;
END $$;

-- Steps come with their operation before it begins, and change until it has ended.
CREATE FUNCTION agents.check_step() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  found text;
BEGIN
  SELECT status INTO found FROM agents.operations WHERE id = NEW.operation_id FOR SHARE;
  IF TG_OP = 'INSERT' AND found <> 'queued' OR found IN ('completed', 'failed', 'cancelled') THEN
    RAISE check_violation USING
      MESSAGE = format('The operation of this step is %s.', found),
      SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, CONSTRAINT = 'move_execution_steps';
  END IF;
  RETURN NEW;
END $$;
