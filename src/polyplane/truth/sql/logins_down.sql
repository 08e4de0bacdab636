DROP FUNCTION polyplane.drop_partitions();
DROP FUNCTION polyplane.make_partition(bigint);
DROP FUNCTION polyplane.touch(text, text[], text[]);
DROP FUNCTION polyplane.emit(text[], jsonb[]);
