-- name: rights
-- Who we are here, and whether this role may install the plane's schema.
SELECT current_database(), current_user, current_setting('server_version_num')::int,
       pg_is_in_recovery(), has_database_privilege(current_database(), 'CREATE'),
       (SELECT pg_get_userbyid(n.nspowner) FROM pg_namespace n
        WHERE n.nspname = 'polyplane' AND NOT pg_has_role(n.nspowner, 'USAGE'))

-- name: relations
-- Everything that people call a table, and what decides whether changes of it can be captured.
SELECT n.nspname, c.relname, c.relkind::text, c.relispartition,
       c.relpersistence = 'u', pg_get_userbyid(c.relowner), pg_has_role(c.relowner, 'USAGE'),
       c.relkind IN ('r', 'p') AND row_security_active(c.oid),
       EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'p'),
       c.relkind = 'r' AND (c.relhassubclass AND EXISTS (
         SELECT FROM pg_inherits i WHERE i.inhparent = c.oid
       )),
       EXISTS (
         SELECT FROM pg_depend d
         WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
       )
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
  AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'polyplane')
  AND n.nspname !~ '^pg_(toast|temp)'
ORDER BY n.nspname <> 'public', 1, 2  -- the plain names are for those

-- name: is_running
-- Whether a relay holds its lease: somebody runs a plane on this database.
SELECT EXISTS (SELECT FROM polyplane.lease WHERE expires_at > clock_timestamp())

-- name: captured
-- The tables and partitions that have triggers of ours, and which.
SELECT n.nspname, c.relname, array_agg(t.tgname::text ORDER BY t.tgname)
FROM pg_trigger t
JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_proc p ON p.oid = t.tgfoid
WHERE p.pronamespace = to_regnamespace('polyplane') AND t.tgname LIKE 'polyplane\_%'
  AND t.tgparentid = 0
GROUP BY 1, 2 ORDER BY 1, 2
