-- Who somebody is elsewhere: what a provider calls them (OpenID Connect's issuer and subject) and
-- which user that is here. One of a provider is one user; a user may have several.
CREATE TABLE polyplane.external_identities (
  id         uuid PRIMARY KEY DEFAULT polyplane.new_key(),
  issuer     text COLLATE "C" NOT NULL CHECK (length(issuer) BETWEEN 1 AND 500),
  subject    text COLLATE "C" NOT NULL CHECK (length(subject) BETWEEN 1 AND 255),
  user_id    uuid NOT NULL REFERENCES polyplane.users ON DELETE CASCADE,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  used_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
  UNIQUE (issuer, subject)
);
CREATE INDEX external_identities_user ON polyplane.external_identities (user_id, id);
