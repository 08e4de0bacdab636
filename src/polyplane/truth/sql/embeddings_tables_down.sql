-- Takes back embeddings_tables.sql.
DROP TABLE polyplane.embedding_usage;
DROP TABLE polyplane.embedding_key;
DROP TABLE polyplane.embedding;
