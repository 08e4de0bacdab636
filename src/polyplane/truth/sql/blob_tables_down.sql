-- Takes back blob_tables.sql. Fails while a table of the user refers to a blob.
DROP TABLE polyplane.blob_part, polyplane.blob;
