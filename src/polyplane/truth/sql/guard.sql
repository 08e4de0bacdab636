-- name: who
SELECT current_user::text

-- name: session
-- Whether sessions are as the plane needs them, and which server process answers.
SELECT pg_backend_pid(), current_setting('timezone'), current_setting('datestyle'),
       current_setting('intervalstyle'), current_setting('extra_float_digits'),
       current_setting('bytea_output'), current_setting('idle_in_transaction_session_timeout')

-- name: relations
-- The tables `names` that exist, and their partitions, with their policies: what was noted on each
-- when it was made, and what it is now.
SELECT w.name, format('%%I.%%I', n.nspname, c.relname), c.relrowsecurity, c.relforcerowsecurity,
       pg_get_userbyid(c.relowner)::text,
       coalesce((
         SELECT json_agg(json_build_array(
           p.polname, p.polpermissive, r.names, coalesce(obj_description(p.oid, 'pg_policy'), ''),
           md5(concat_ws('|', p.polpermissive, p.polcmd, r.names::text,
                         pg_get_expr(p.polqual, c.oid), pg_get_expr(p.polwithcheck, c.oid)))
         ) ORDER BY p.polname)
         FROM pg_policy p CROSS JOIN LATERAL (
           SELECT array_agg(CASE u.role WHEN 0 THEN 'public' ELSE pg_get_userbyid(u.role)::text END
                            ORDER BY u.role) AS names
           FROM unnest(p.polroles) AS u (role)
         ) r
         WHERE p.polrelid = c.oid
       ), '[]')
FROM unnest(%(names)s::text[]) AS w (name)
CROSS JOIN LATERAL (
  SELECT to_regclass(w.name)::oid UNION SELECT relid FROM pg_partition_tree(to_regclass(w.name))
) AS t (oid)
JOIN pg_class c ON c.oid = t.oid JOIN pg_namespace n ON n.oid = c.relnamespace
ORDER BY 1, 2

-- name: views
-- Views on the tables `names`, however far away.
WITH RECURSIVE reached (oid) AS (
  SELECT to_regclass(name)::oid FROM unnest(%(names)s::text[]) AS w (name)
  UNION
  SELECT r.ev_class
  FROM reached x
  JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = x.oid
                  AND d.classid = 'pg_rewrite'::regclass
  JOIN pg_rewrite r ON r.oid = d.objid
)
SELECT format('%%I.%%I', n.nspname, c.relname), c.relkind = 'm',
       coalesce((SELECT o.option_value::boolean FROM pg_options_to_table(c.reloptions) o
                 WHERE o.option_name = 'security_invoker'), false),
       has_table_privilege(%(app)s, c.oid, 'SELECT')
FROM reached x JOIN pg_class c ON c.oid = x.oid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('v', 'm') ORDER BY 1

-- name: definers
-- Functions that the login may call with their owner's rights and whose names it may replace. Those of
-- capture qualify every name instead, which is faster.
SELECT p.oid::regprocedure::text
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE p.prosecdef AND n.nspname NOT IN ('pg_catalog', 'information_schema')
  AND NOT EXISTS (SELECT FROM unnest(p.proconfig) AS s WHERE s LIKE 'search_path=%%')
  AND NOT (n.nspname = 'polyplane' AND p.proname ~ '^capture_[0-9a-f]{16}_(insert|update|delete)$')
  AND NOT EXISTS (SELECT FROM pg_depend d
                  WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
ORDER BY 1

-- name: login
-- Why the login `app` is not held to policies, which of `names` it can own, and whether it has a
-- right on the outbox.
SELECT ARRAY(
         SELECT CASE WHEN r.rolname = %(app)s THEN '' ELSE 'a member of ' || r.rolname || ', ' END
                || CASE WHEN r.rolsuper THEN 'a superuser' ELSE 'not held to policies (BYPASSRLS)' END
         FROM pg_roles r
         WHERE (r.rolsuper OR r.rolbypassrls)
           AND (r.rolname = %(app)s OR (
             pg_has_role(%(app)s, r.oid, 'MEMBER')
             AND NOT (SELECT a.rolsuper FROM pg_roles a WHERE a.rolname = %(app)s)
           ))
       ),
       ARRAY(
         SELECT w.name FROM unnest(%(names)s::text[]) AS w (name)
         JOIN pg_class c ON c.oid = to_regclass(w.name)
         WHERE pg_has_role(%(app)s, c.relowner, 'MEMBER')
       ),
       coalesce(has_table_privilege(%(app)s, to_regclass('polyplane.outbox')::oid,
                                    'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, TRIGGER'), false)

-- name: contents
-- What is in `schemas`: tables, views and sequences that logins are given rights on.
SELECT format('%%I.%%I', n.nspname, c.relname), c.relkind::text
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = ANY (%(schemas)s::text[]) AND c.relkind IN ('r', 'p', 'v', 'f', 'S')
  AND pg_has_role(c.relowner, 'USAGE')
  AND NOT EXISTS (SELECT FROM pg_depend d
                  WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype IN ('e', 'i'))
ORDER BY 1

-- name: own
-- What is in the plane's own schema.
SELECT relname::text FROM pg_class
WHERE relnamespace = 'polyplane'::regnamespace AND relkind IN ('r', 'p', 'v', 'S')

-- name: granted
-- What was noted when rights were given last.
SELECT coalesce(obj_description('polyplane'::regnamespace, 'pg_namespace'), '')
