DROP TABLE polyplane.data_keys;
