-- The tables of profiles, tokens, tasks, messages, calendar, money, configuration and outputs.
CREATE TABLE assistant.user_profiles (
  id UUID DEFAULT polyplane.new_key() NOT NULL,
  tenant_id VARCHAR(64) DEFAULT 'default' NOT NULL,
  owner_id UUID,
  display_name VARCHAR(255) NOT NULL,
  locale VARCHAR(35) DEFAULT 'en' NOT NULL,
  zone VARCHAR(64) DEFAULT 'UTC' NOT NULL,
  preferences JSONB DEFAULT '{}' NOT NULL,
  created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  CONSTRAINT pk_user_profiles PRIMARY KEY (id),
  CONSTRAINT uq_user_profiles_tenant_id UNIQUE NULLS NOT DISTINCT (tenant_id, owner_id)
);
CREATE INDEX ix_user_profiles_listed ON assistant.user_profiles (tenant_id, created_at, id);

CREATE TABLE assistant.oauth_tokens (
  id UUID DEFAULT polyplane.new_key() NOT NULL,
  tenant_id VARCHAR(64) DEFAULT 'default' NOT NULL,
  owner_id UUID,
  provider VARCHAR(31) NOT NULL,
  account VARCHAR(255) NOT NULL,
  state VARCHAR(20) DEFAULT 'active' NOT NULL,
  scopes JSONB DEFAULT '[]' NOT NULL,
  access_token TEXT NOT NULL,
  refresh_token TEXT,
  expires_at TIMESTAMP WITH TIME ZONE,
  refreshed_at TIMESTAMP WITH TIME ZONE,
  lease_until TIMESTAMP WITH TIME ZONE,
  fence BIGINT DEFAULT '0' NOT NULL,
  failure VARCHAR(500),
  created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  CONSTRAINT pk_oauth_tokens PRIMARY KEY (id),
  CONSTRAINT uq_oauth_tokens_tenant_id UNIQUE NULLS NOT DISTINCT (tenant_id, owner_id, provider, account),
  CONSTRAINT ck_oauth_tokens_state CHECK (state IN ('active', 'refreshing', 'needs_consent')),
  CONSTRAINT ck_oauth_tokens_lease_until CHECK ((lease_until IS NOT NULL) = (state = 'refreshing')),
  CONSTRAINT ck_oauth_tokens_failure CHECK (failure IS NOT NULL OR state <> 'needs_consent'),
  CONSTRAINT ck_oauth_tokens_fence CHECK (fence >= 0)
);
CREATE INDEX ix_oauth_tokens_listed ON assistant.oauth_tokens (tenant_id, created_at, id);

CREATE TABLE assistant.oauth_consents (
  id UUID DEFAULT polyplane.new_key() NOT NULL,
  tenant_id VARCHAR(64) DEFAULT 'default' NOT NULL,
  owner_id UUID,
  provider VARCHAR(31) NOT NULL,
  account VARCHAR(255) NOT NULL,
  state_hash VARCHAR(64) NOT NULL,
  verifier TEXT NOT NULL,
  expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
  finished_at TIMESTAMP WITH TIME ZONE,
  created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  CONSTRAINT pk_oauth_consents PRIMARY KEY (id),
  CONSTRAINT uq_oauth_consents_state_hash UNIQUE (state_hash)
);

CREATE TABLE assistant.integrations (
  id UUID DEFAULT polyplane.new_key() NOT NULL,
  tenant_id VARCHAR(64) DEFAULT 'default' NOT NULL,
  owner_id UUID,
  kind VARCHAR(50) NOT NULL,
  enabled BOOLEAN DEFAULT true NOT NULL,
  settings JSONB DEFAULT '{}' NOT NULL,
  credentials TEXT,
  created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  CONSTRAINT pk_integrations PRIMARY KEY (id),
  CONSTRAINT uq_integrations_tenant_id UNIQUE NULLS NOT DISTINCT (tenant_id, owner_id, kind)
);
CREATE INDEX ix_integrations_listed ON assistant.integrations (tenant_id, created_at, id);

CREATE TABLE assistant.tasks (
  id UUID DEFAULT polyplane.new_key() NOT NULL,
  tenant_id VARCHAR(64) DEFAULT 'default' NOT NULL,
  owner_id UUID,
  title VARCHAR(500) NOT NULL,
  body TEXT,
  status VARCHAR(20) DEFAULT 'todo' NOT NULL,
  priority SMALLINT DEFAULT '3' NOT NULL,
  due_at TIMESTAMP WITH TIME ZONE,
  completed_at TIMESTAMP WITH TIME ZONE,
  details JSONB DEFAULT '{}' NOT NULL,
  external_id VARCHAR(255),
  created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  CONSTRAINT pk_tasks PRIMARY KEY (id),
  CONSTRAINT ck_tasks_status CHECK (status IN ('todo', 'doing', 'blocked', 'done', 'cancelled')),
  CONSTRAINT ck_tasks_priority CHECK (priority BETWEEN 1 AND 5),
  CONSTRAINT ck_tasks_completed_at CHECK ((completed_at IS NOT NULL) = (status IN ('done', 'cancelled')))
);
CREATE INDEX ix_tasks_due_at ON assistant.tasks (tenant_id, due_at);
CREATE INDEX ix_tasks_listed ON assistant.tasks (tenant_id, created_at, id);
CREATE UNIQUE INDEX uq_tasks_external_id ON assistant.tasks (tenant_id, owner_id, external_id) NULLS NOT DISTINCT WHERE external_id IS NOT NULL;

CREATE TABLE assistant.message_threads (
  id UUID DEFAULT polyplane.new_key() NOT NULL,
  tenant_id VARCHAR(64) DEFAULT 'default' NOT NULL,
  owner_id UUID,
  channel VARCHAR(20) NOT NULL,
  subject VARCHAR(998) DEFAULT '' NOT NULL,
  created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  CONSTRAINT pk_message_threads PRIMARY KEY (id),
  CONSTRAINT uq_message_threads_id UNIQUE (id, tenant_id),
  CONSTRAINT ck_message_threads_channel CHECK (channel IN ('email', 'chat', 'notification'))
);
CREATE INDEX ix_message_threads_listed ON assistant.message_threads (tenant_id, created_at, id);

CREATE TABLE assistant.messages (
  id UUID DEFAULT polyplane.new_key() NOT NULL,
  tenant_id VARCHAR(64) DEFAULT 'default' NOT NULL,
  owner_id UUID,
  thread_id UUID NOT NULL,
  sender VARCHAR(320) NOT NULL,
  recipients JSONB DEFAULT '[]' NOT NULL,
  body TEXT NOT NULL,
  sent_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  read_at TIMESTAMP WITH TIME ZONE,
  external_id VARCHAR(255),
  created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  CONSTRAINT pk_messages PRIMARY KEY (id),
  CONSTRAINT uq_messages_id UNIQUE (id, tenant_id),
  CONSTRAINT fk_messages_thread_id FOREIGN KEY(thread_id, tenant_id) REFERENCES assistant.message_threads (id, tenant_id) ON DELETE CASCADE
);
CREATE INDEX ix_messages_listed ON assistant.messages (tenant_id, sent_at, id);
CREATE INDEX ix_messages_thread ON assistant.messages (thread_id, sent_at, id);
CREATE INDEX ix_messages_unread ON assistant.messages (tenant_id, owner_id) WHERE read_at IS NULL;
CREATE UNIQUE INDEX uq_messages_external_id ON assistant.messages (tenant_id, owner_id, external_id) NULLS NOT DISTINCT WHERE external_id IS NOT NULL;

CREATE TABLE assistant.calendar_events (
  id UUID DEFAULT polyplane.new_key() NOT NULL,
  tenant_id VARCHAR(64) DEFAULT 'default' NOT NULL,
  owner_id UUID,
  title VARCHAR(500) NOT NULL,
  place VARCHAR(500),
  body TEXT,
  starts_at TIMESTAMP WITH TIME ZONE NOT NULL,
  ends_at TIMESTAMP WITH TIME ZONE NOT NULL,
  zone VARCHAR(64) NOT NULL,
  all_day BOOLEAN DEFAULT false NOT NULL,
  busy BOOLEAN DEFAULT true NOT NULL,
  recurrence VARCHAR(500),
  last_ends_at TIMESTAMP WITH TIME ZONE,
  external_id VARCHAR(255),
  created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  CONSTRAINT pk_calendar_events PRIMARY KEY (id),
  CONSTRAINT uq_calendar_events_id UNIQUE (id, tenant_id),
  CONSTRAINT ck_calendar_events_ends_at CHECK (ends_at >= starts_at AND ends_at <= starts_at + interval '366 days'),
  CONSTRAINT ck_calendar_events_starts_at CHECK (starts_at >= '1900-01-01 00:00:00+00' AND starts_at < '2200-01-01 00:00:00+00'),
  CONSTRAINT ck_calendar_events_zone CHECK (zone ~ '^[A-Za-z0-9_+/-]{1,64}$'),
  CONSTRAINT ck_calendar_events_last_ends_at CHECK (recurrence IS NOT NULL OR last_ends_at IS NOT DISTINCT FROM ends_at)
);
CREATE INDEX ix_calendar_events_listed ON assistant.calendar_events (tenant_id, created_at, id);
CREATE INDEX ix_calendar_events_time ON assistant.calendar_events (tenant_id, starts_at, last_ends_at);
CREATE UNIQUE INDEX uq_calendar_events_external_id ON assistant.calendar_events (tenant_id, owner_id, external_id) NULLS NOT DISTINCT WHERE external_id IS NOT NULL;

CREATE TABLE assistant.calendar_overrides (
  id UUID DEFAULT polyplane.new_key() NOT NULL,
  tenant_id VARCHAR(64) DEFAULT 'default' NOT NULL,
  owner_id UUID,
  event_id UUID NOT NULL,
  occurs_at TIMESTAMP WITH TIME ZONE NOT NULL,
  cancelled BOOLEAN DEFAULT false NOT NULL,
  starts_at TIMESTAMP WITH TIME ZONE,
  ends_at TIMESTAMP WITH TIME ZONE,
  title VARCHAR(500),
  created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  CONSTRAINT pk_calendar_overrides PRIMARY KEY (id),
  CONSTRAINT fk_calendar_overrides_event_id FOREIGN KEY(event_id, tenant_id) REFERENCES assistant.calendar_events (id, tenant_id) ON DELETE CASCADE,
  CONSTRAINT uq_calendar_overrides_event_id UNIQUE (event_id, occurs_at),
  CONSTRAINT ck_calendar_overrides_cancelled CHECK (cancelled = (starts_at IS NULL) AND cancelled = (ends_at IS NULL)),
  CONSTRAINT ck_calendar_overrides_ends_at CHECK (ends_at >= starts_at AND ends_at <= starts_at + interval '366 days')
);

CREATE TABLE assistant.accounts (
  id UUID DEFAULT polyplane.new_key() NOT NULL,
  tenant_id VARCHAR(64) DEFAULT 'default' NOT NULL,
  owner_id UUID,
  name VARCHAR(255) NOT NULL,
  kind VARCHAR(20) NOT NULL,
  currency VARCHAR(3) NOT NULL,
  closed BOOLEAN DEFAULT false NOT NULL,
  created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  CONSTRAINT pk_accounts PRIMARY KEY (id),
  CONSTRAINT uq_accounts_id UNIQUE (id, tenant_id, currency),
  CONSTRAINT uq_accounts_tenant_id UNIQUE NULLS NOT DISTINCT (tenant_id, owner_id, name),
  CONSTRAINT ck_accounts_kind CHECK (kind IN ('asset', 'liability', 'equity', 'income', 'expense')),
  CONSTRAINT ck_accounts_currency CHECK (currency ~ '^[A-Z]{3}$')
);
CREATE INDEX ix_accounts_listed ON assistant.accounts (tenant_id, created_at, id);

CREATE TABLE assistant.transactions (
  id UUID DEFAULT polyplane.new_key() NOT NULL,
  tenant_id VARCHAR(64) DEFAULT 'default' NOT NULL,
  owner_id UUID,
  posted_on DATE DEFAULT CURRENT_DATE NOT NULL,
  memo VARCHAR(500),
  postings SMALLINT NOT NULL,
  reverses_id UUID,
  external_id VARCHAR(255),
  created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  CONSTRAINT pk_transactions PRIMARY KEY (id),
  CONSTRAINT uq_transactions_id UNIQUE (id, tenant_id),
  CONSTRAINT fk_transactions_reverses_id FOREIGN KEY(reverses_id, tenant_id) REFERENCES assistant.transactions (id, tenant_id),
  CONSTRAINT uq_transactions_reverses_id UNIQUE (reverses_id),
  CONSTRAINT ck_transactions_postings CHECK (postings BETWEEN 2 AND 100)
);
CREATE INDEX ix_transactions_listed ON assistant.transactions (tenant_id, created_at, id);
CREATE INDEX ix_transactions_posted_on ON assistant.transactions (tenant_id, posted_on);
CREATE UNIQUE INDEX uq_transactions_external_id ON assistant.transactions (tenant_id, owner_id, external_id) NULLS NOT DISTINCT WHERE external_id IS NOT NULL;

CREATE TABLE assistant.postings (
  id UUID DEFAULT polyplane.new_key() NOT NULL,
  tenant_id VARCHAR(64) DEFAULT 'default' NOT NULL,
  owner_id UUID,
  transaction_id UUID NOT NULL,
  number SMALLINT NOT NULL,
  account_id UUID NOT NULL,
  currency VARCHAR(3) NOT NULL,
  amount NUMERIC(24, 4) NOT NULL,
  created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  CONSTRAINT pk_postings PRIMARY KEY (id),
  CONSTRAINT fk_postings_transaction_id FOREIGN KEY(transaction_id, tenant_id) REFERENCES assistant.transactions (id, tenant_id),
  CONSTRAINT fk_postings_account_id FOREIGN KEY(account_id, tenant_id, currency) REFERENCES assistant.accounts (id, tenant_id, currency),
  CONSTRAINT uq_postings_transaction_id UNIQUE (transaction_id, number),
  CONSTRAINT ck_postings_amount CHECK (amount <> 0),
  CONSTRAINT ck_postings_number CHECK (number BETWEEN 1 AND 100)
);
CREATE INDEX ix_postings_account ON assistant.postings (account_id, tenant_id);

CREATE TABLE assistant.configuration (
  id UUID DEFAULT polyplane.new_key() NOT NULL,
  tenant_id VARCHAR(64) DEFAULT 'default' NOT NULL,
  key VARCHAR(255) NOT NULL,
  kind VARCHAR(20) NOT NULL,
  value JSONB NOT NULL,
  version INTEGER DEFAULT '1' NOT NULL,
  description VARCHAR(1000),
  created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  CONSTRAINT pk_configuration PRIMARY KEY (id),
  CONSTRAINT uq_configuration_key UNIQUE (key, tenant_id),
  CONSTRAINT ck_configuration_kind CHECK (kind IN ('text', 'integer', 'decimal', 'boolean', 'object', 'list')),
  CONSTRAINT ck_configuration_key CHECK (key ~ '^[a-z][a-z0-9_.-]{0,254}$'),
  CONSTRAINT ck_configuration_version CHECK (version >= 1),
  CONSTRAINT ck_configuration_value CHECK (CASE kind WHEN 'text' THEN jsonb_typeof(value) = 'string' WHEN 'integer' THEN jsonb_typeof(value) = 'number' AND value::text ~ '^-?[0-9]+$' WHEN 'decimal' THEN jsonb_typeof(value) = 'string' AND value #>> '{}' ~ '^-?[0-9]{1,20}([.][0-9]{1,20})?$' WHEN 'boolean' THEN jsonb_typeof(value) = 'boolean' WHEN 'object' THEN jsonb_typeof(value) = 'object' ELSE jsonb_typeof(value) = 'array' END)
);
CREATE INDEX ix_configuration_listed ON assistant.configuration (tenant_id, created_at, id);

CREATE TABLE assistant.model_outputs (
  id UUID DEFAULT polyplane.new_key() NOT NULL,
  tenant_id VARCHAR(64) DEFAULT 'default' NOT NULL,
  owner_id UUID,
  model VARCHAR(255) NOT NULL,
  purpose VARCHAR(100) NOT NULL,
  prompt TEXT NOT NULL,
  content TEXT NOT NULL,
  input_tokens INTEGER DEFAULT '0' NOT NULL,
  output_tokens INTEGER DEFAULT '0' NOT NULL,
  cost NUMERIC(18, 8) DEFAULT '0' NOT NULL,
  currency VARCHAR(3) DEFAULT 'USD' NOT NULL,
  external_id VARCHAR(255),
  created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  CONSTRAINT pk_model_outputs PRIMARY KEY (id),
  CONSTRAINT uq_model_outputs_id UNIQUE (id, tenant_id),
  CONSTRAINT ck_model_outputs_input_tokens CHECK (input_tokens >= 0),
  CONSTRAINT ck_model_outputs_output_tokens CHECK (output_tokens >= 0),
  CONSTRAINT ck_model_outputs_cost CHECK (cost >= 0),
  CONSTRAINT ck_model_outputs_currency CHECK (currency ~ '^[A-Z]{3}$')
);
CREATE INDEX ix_model_outputs_listed ON assistant.model_outputs (tenant_id, created_at, id);
CREATE INDEX ix_model_outputs_model ON assistant.model_outputs (tenant_id, model);
CREATE UNIQUE INDEX uq_model_outputs_external_id ON assistant.model_outputs (tenant_id, owner_id, external_id) NULLS NOT DISTINCT WHERE external_id IS NOT NULL;

CREATE TABLE assistant.model_output_documents (
  tenant_id VARCHAR(64) DEFAULT 'default' NOT NULL,
  owner_id UUID,
  output_id UUID NOT NULL,
  document_id UUID NOT NULL,
  created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  CONSTRAINT pk_model_output_documents PRIMARY KEY (output_id, document_id),
  CONSTRAINT fk_model_output_documents_output_id FOREIGN KEY(output_id, tenant_id) REFERENCES assistant.model_outputs (id, tenant_id) ON DELETE CASCADE,
  CONSTRAINT fk_model_output_documents_document_id FOREIGN KEY(document_id, tenant_id) REFERENCES assistant.documents (id, tenant_id) ON DELETE CASCADE
);
CREATE INDEX ix_model_output_documents_document ON assistant.model_output_documents (document_id);
