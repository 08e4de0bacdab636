-- Takes back repeats_tables.sql.
DROP FUNCTION polyplane.sweep_repeats();
DROP TABLE polyplane.repeat;
