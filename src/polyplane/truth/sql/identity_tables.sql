-- Who may come in, and as whom. Of passwords, tokens and keys only hashes are kept.
CREATE TABLE polyplane.organizations (
  id         text COLLATE "C" PRIMARY KEY CHECK (id ~ '^[A-Za-z0-9_-]{1,64}$'),
  name       text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
INSERT INTO polyplane.organizations (id, name) VALUES ('default', 'Default');

-- `email` is as its owner writes it; `email_key` is what makes two of them the same.
CREATE TABLE polyplane.users (
  id               uuid PRIMARY KEY DEFAULT polyplane.new_key(),
  email            text NOT NULL,
  email_key        text COLLATE "C" NOT NULL UNIQUE,
  name             text NOT NULL DEFAULT '',
  password_hash    text,
  status           text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'disabled')),
  is_administrator boolean NOT NULL DEFAULT false,
  created_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
  updated_at       timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE polyplane.members (
  user_id    uuid NOT NULL REFERENCES polyplane.users ON DELETE CASCADE,
  tenant_id  text COLLATE "C" NOT NULL REFERENCES polyplane.organizations ON DELETE CASCADE,
  role       text NOT NULL
             CHECK (role IN ('viewer', 'auditor', 'editor', 'operator', 'admin', 'owner')),
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (user_id, tenant_id)
);
CREATE INDEX members_tenant ON polyplane.members (tenant_id, user_id);

CREATE TABLE polyplane.sessions (
  id         uuid PRIMARY KEY DEFAULT polyplane.new_key(),
  user_id    uuid NOT NULL REFERENCES polyplane.users ON DELETE CASCADE,
  token_hash bytea NOT NULL UNIQUE CHECK (length(token_hash) = 32),
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  used_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
  expires_at timestamptz NOT NULL,
  address    text NOT NULL DEFAULT '',
  agent      text NOT NULL DEFAULT ''
);
CREATE INDEX sessions_user ON polyplane.sessions (user_id, id);

-- A key is a user's, and may then at most what they may, or a program's, with a role of its own.
-- `scopes` are the permissions it is narrowed to; null: none is taken from it.
CREATE TABLE polyplane.api_keys (
  id          text COLLATE "C" PRIMARY KEY,
  tenant_id   text COLLATE "C" NOT NULL REFERENCES polyplane.organizations ON DELETE CASCADE,
  client      text NOT NULL CHECK (length(client) BETWEEN 1 AND 100),
  user_id     uuid REFERENCES polyplane.users ON DELETE CASCADE,
  role        text CHECK (role IN ('service_reader', 'service_writer', 'service_operator')),
  scopes      text[],
  secret_hash bytea NOT NULL UNIQUE CHECK (length(secret_hash) = 32),
  made_by     text NOT NULL,
  created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
  expires_at  timestamptz NOT NULL,
  used_at     timestamptz,
  CHECK ((user_id IS NULL) <> (role IS NULL))
);
CREATE INDEX api_keys_client ON polyplane.api_keys (tenant_id, client);
CREATE INDEX api_keys_user ON polyplane.api_keys (user_id) WHERE user_id IS NOT NULL;

-- Failed attempts to sign in, by account and by where they came from. `account` is a keyed hash: an
-- address that nobody has is counted like any other, and is not kept.
CREATE TABLE polyplane.sign_in_attempts (
  account       bytea NOT NULL,
  origin        text COLLATE "C" NOT NULL,
  failures      int NOT NULL,
  failed_at     timestamptz NOT NULL,
  blocked_until timestamptz NOT NULL,
  PRIMARY KEY (account, origin)
);
CREATE INDEX sign_in_attempts_failed ON polyplane.sign_in_attempts (failed_at);

-- What signs cached entries and known devices: the same for all processes of one truth.
CREATE TABLE polyplane.identity_secret (
  is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
  secret  bytea NOT NULL CHECK (length(secret) = 32)
);
