-- What is done to PostgreSQL now and then.

-- name: tables
-- Every table of these schemas that this login may look after, partitions by themselves; as SQL names it.
SELECT format('%%I.%%I', n.nspname, c.relname)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = ANY (%(schemas)s::text[]) AND c.relkind IN ('r', 'm')
  AND pg_catalog.pg_has_role(c.relowner, 'USAGE')
ORDER BY 1
