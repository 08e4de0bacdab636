-- Takes back external_tables.sql. Who has no password cannot sign in afterwards.
DROP TABLE polyplane.external_identities;
