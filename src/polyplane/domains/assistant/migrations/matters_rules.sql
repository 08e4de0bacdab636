-- What no row may break, whoever writes it: an application or psql. All of these run as whoever
-- writes, so what they look up is what that one may see.

-- No row begins as, or becomes, what it cannot be. The arguments: the column; state -> those that
-- may follow; the states rows begin as.
CREATE FUNCTION assistant.check_move() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  moves jsonb := TG_ARGV[1];
  now_is text := to_jsonb(NEW) ->> TG_ARGV[0];
  was text;
BEGIN
  IF TG_OP = 'INSERT' THEN
    IF now_is <> ALL (string_to_array(TG_ARGV[2], ',')) THEN
      RAISE check_violation USING
        MESSAGE = format('A row of %I does not begin as %s.', TG_TABLE_NAME, now_is),
        SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, CONSTRAINT = 'move_' || TG_TABLE_NAME;
    END IF;
    RETURN NEW;
  END IF;
  was := to_jsonb(OLD) ->> TG_ARGV[0];
  IF was <> now_is AND NOT coalesce((moves -> was) ? now_is, false) THEN
    RAISE check_violation USING
      MESSAGE = format('What is %s cannot become %s in %I.', was, now_is, TG_TABLE_NAME),
      SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, CONSTRAINT = 'move_' || TG_TABLE_NAME;
  END IF;
  RETURN NEW;
END $$;

-- What a row refers to has its owner, too. The arguments: the table, and the column that refers.
CREATE FUNCTION assistant.check_owner() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  referred uuid := (to_jsonb(NEW) ->> TG_ARGV[1])::uuid;
  found boolean;
BEGIN
  IF referred IS NULL THEN
    RETURN NEW;
  END IF;
  EXECUTE format(
    'SELECT true FROM assistant.%I WHERE id = $1 AND tenant_id = $2'
    ' AND owner_id IS NOT DISTINCT FROM $3', TG_ARGV[0])
    INTO found USING referred, NEW.tenant_id, NEW.owner_id;
  IF found IS NULL THEN
    RAISE foreign_key_violation USING
      MESSAGE = format('There is nothing of this owner under %s.', TG_ARGV[1]),
      SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, COLUMN = TG_ARGV[1],
      CONSTRAINT = 'owner_' || TG_TABLE_NAME;
  END IF;
  RETURN NEW;
END $$;

-- How many digits behind the point amounts of a currency have (ISO 4217).
CREATE FUNCTION assistant.minor_digits(currency text) RETURNS int
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
  SELECT CASE
    WHEN currency IN ('BIF', 'CLP', 'DJF', 'GNF', 'ISK', 'JPY', 'KMF', 'KRW', 'PYG', 'RWF', 'UGX',
                      'UYI', 'VND', 'VUV', 'XAF', 'XOF', 'XPF') THEN 0
    WHEN currency IN ('BHD', 'IQD', 'JOD', 'KWD', 'LYD', 'OMR', 'TND') THEN 3
    WHEN currency IN ('CLF', 'UYW') THEN 4
    ELSE 2
  END
$$;

-- A posting goes to an open account of its owner, in what the currency can be counted in.
CREATE FUNCTION assistant.check_posting() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  is_closed boolean;
BEGIN
  IF NEW.amount <> round(NEW.amount, assistant.minor_digits(NEW.currency)) THEN
    RAISE check_violation USING
      MESSAGE = format('%s has no such small parts as %s.', NEW.currency, NEW.amount),
      SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, CONSTRAINT = 'minor_digits_postings';
  END IF;
  -- With the lock nobody closes the account until this is committed.
  SELECT closed INTO is_closed FROM assistant.accounts
    WHERE id = NEW.account_id AND tenant_id = NEW.tenant_id
      AND owner_id IS NOT DISTINCT FROM NEW.owner_id
    FOR SHARE;
  IF is_closed IS NULL THEN
    RAISE foreign_key_violation USING
      MESSAGE = 'There is no such account of this owner.',
      SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, COLUMN = 'account_id',
      CONSTRAINT = 'owner_postings';
  ELSIF is_closed THEN
    RAISE check_violation USING
      MESSAGE = 'The account is closed.',
      SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, COLUMN = 'account_id',
      CONSTRAINT = 'open_accounts';
  END IF;
  RETURN NEW;
END $$;

-- What was posted stays; a mistake is taken back by another transaction.
CREATE FUNCTION assistant.refuse_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RAISE check_violation USING
    MESSAGE = format('Rows of %I are never changed; reverse the transaction.', TG_TABLE_NAME),
    SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, CONSTRAINT = 'immutable_' || TG_TABLE_NAME;
END $$;

-- At the commit: a transaction has the postings it says, and they add up to nothing.
CREATE FUNCTION assistant.check_balance() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  wanted uuid := CASE TG_TABLE_NAME
    WHEN 'transactions' THEN to_jsonb(NEW) ->> 'id'
    ELSE to_jsonb(NEW) ->> 'transaction_id' END;
  said int;
  there int;
  odd text;
BEGIN
  SELECT postings INTO said FROM assistant.transactions WHERE id = wanted;
  SELECT sum(part.n), min(part.currency) FILTER (WHERE part.total <> 0) INTO there, odd
    FROM (SELECT currency, count(*) AS n, sum(amount) AS total
          FROM assistant.postings WHERE transaction_id = wanted GROUP BY currency) AS part;
  IF odd IS NOT NULL OR coalesce(there, 0) IS DISTINCT FROM said THEN
    RAISE check_violation USING
      MESSAGE = format('The transaction %s does not balance: %s of %s postings%s.', wanted,
                       coalesce(there, 0), said, coalesce(', in ' || odd, '')),
      SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, CONSTRAINT = 'balance_transactions';
  END IF;
  RETURN NULL;
END $$;

-- A transaction that takes another one back is of its owner, and takes back nothing that does so
-- itself.
CREATE FUNCTION assistant.check_reversal() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  before uuid;
  known boolean;
BEGIN
  SELECT true, reverses_id INTO known, before FROM assistant.transactions
    WHERE id = NEW.reverses_id AND tenant_id = NEW.tenant_id
      AND owner_id IS NOT DISTINCT FROM NEW.owner_id;
  IF known IS NULL OR before IS NOT NULL THEN
    RAISE check_violation USING
      MESSAGE = 'Only a transaction of this owner that reverses nothing can be reversed.',
      SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, COLUMN = 'reverses_id',
      CONSTRAINT = 'reversal_transactions';
  END IF;
  RETURN NEW;
END $$;

-- Each change of a value is one more version of it.
CREATE FUNCTION assistant.check_version() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF NEW.key <> OLD.key OR NEW.version <> OLD.version + 1 THEN
    RAISE check_violation USING
      MESSAGE = format('The version after %s is %s.', OLD.version, OLD.version + 1),
      SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, CONSTRAINT = 'version_configuration';
  END IF;
  RETURN NEW;
END $$;

CREATE TRIGGER posts BEFORE INSERT ON assistant.postings
  FOR EACH ROW EXECUTE FUNCTION assistant.check_posting();
CREATE TRIGGER owner_of_transaction BEFORE INSERT ON assistant.postings
  FOR EACH ROW EXECUTE FUNCTION assistant.check_owner('transactions', 'transaction_id');
CREATE TRIGGER reverses BEFORE INSERT ON assistant.transactions
  FOR EACH ROW WHEN (NEW.reverses_id IS NOT NULL)
  EXECUTE FUNCTION assistant.check_reversal();
CREATE CONSTRAINT TRIGGER balances AFTER INSERT ON assistant.transactions
  DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW EXECUTE FUNCTION assistant.check_balance();
CREATE CONSTRAINT TRIGGER balances AFTER INSERT ON assistant.postings
  DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW EXECUTE FUNCTION assistant.check_balance();
CREATE TRIGGER stays BEFORE UPDATE OR DELETE ON assistant.transactions
  FOR EACH ROW EXECUTE FUNCTION assistant.refuse_change();
CREATE TRIGGER stays BEFORE UPDATE OR DELETE ON assistant.postings
  FOR EACH ROW EXECUTE FUNCTION assistant.refuse_change();
CREATE TRIGGER stays_whole BEFORE TRUNCATE ON assistant.transactions
  FOR EACH STATEMENT EXECUTE FUNCTION assistant.refuse_change();
CREATE TRIGGER stays_whole BEFORE TRUNCATE ON assistant.postings
  FOR EACH STATEMENT EXECUTE FUNCTION assistant.refuse_change();
CREATE FUNCTION assistant.check_account() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RAISE check_violation USING
    MESSAGE = 'An account keeps its owner and its currency.',
    SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, CONSTRAINT = 'fixed_accounts';
END $$;
CREATE TRIGGER stays BEFORE UPDATE ON assistant.accounts
  FOR EACH ROW WHEN (NEW.currency <> OLD.currency OR NEW.tenant_id <> OLD.tenant_id
                     OR NEW.owner_id IS DISTINCT FROM OLD.owner_id)
  EXECUTE FUNCTION assistant.check_account();
CREATE TRIGGER counts BEFORE UPDATE ON assistant.configuration
  FOR EACH ROW EXECUTE FUNCTION assistant.check_version();
CREATE TRIGGER owner_of_thread BEFORE INSERT OR UPDATE ON assistant.messages
  FOR EACH ROW EXECUTE FUNCTION assistant.check_owner('message_threads', 'thread_id');
CREATE TRIGGER owner_of_event BEFORE INSERT OR UPDATE ON assistant.calendar_overrides
  FOR EACH ROW EXECUTE FUNCTION assistant.check_owner('calendar_events', 'event_id');
CREATE TRIGGER owner_of_output BEFORE INSERT OR UPDATE ON assistant.model_output_documents
  FOR EACH ROW EXECUTE FUNCTION assistant.check_owner('model_outputs', 'output_id');
