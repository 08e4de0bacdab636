-- Takes back identity_tables.sql.
DROP TABLE polyplane.identity_secret, polyplane.sign_in_attempts, polyplane.api_keys,
  polyplane.sessions, polyplane.members, polyplane.users, polyplane.organizations;
