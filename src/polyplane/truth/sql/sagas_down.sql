DROP FUNCTION polyplane.saga_tell(uuid, text, json);
DROP FUNCTION polyplane.saga_undone(uuid, bigint, int, text);
DROP FUNCTION polyplane.saga_done(uuid, bigint, int, text, int, int, json, int, text);
DROP TABLE polyplane.saga_signal;
DROP TABLE polyplane.saga_step;
DROP TABLE polyplane.saga;
