-- A database as people have them: keys of any type, names of any kind, things that are no tables.

CREATE EXTENSION IF NOT EXISTS citext;
CREATE SCHEMA "Sales Dept";
CREATE TYPE mood AS ENUM ('sad', 'it''s "ok"', 'happy');
CREATE DOMAIN email AS text CHECK (VALUE LIKE '%@%');

CREATE TABLE article (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  title text NOT NULL, body text, status varchar(20) NOT NULL DEFAULT 'new',
  price numeric(10, 2), score double precision, published timestamp,
  updated timestamptz DEFAULT '2024-01-01', owner uuid, is_open boolean NOT NULL DEFAULT true,
  feeling mood, contact email, password_hash text, payload jsonb, labels text[], raw bytea,
  place point, took interval, born date
);
INSERT INTO article
  (title, body, status, price, score, published, owner, feeling, contact, password_hash, payload,
   labels, raw, took, born)
SELECT 'Title ' || i, 'The body of number ' || i, (ARRAY['new', 'done'])[1 + i % 2], i * 1.5,
  CASE i % 3 WHEN 0 THEN 'NaN' WHEN 1 THEN 'Infinity' ELSE i::float8 END,
  timestamp '2024-01-01' + i * interval '1h', md5(i::text)::uuid, 'happy', i || '@example.org',
  'hunter' || i, '{"a": 1}', '{a, b}', '\x00ff', '1 day', '2000-01-01'
FROM generate_series(1, 50) i;

CREATE TABLE "Sales Dept"."Order ""Lines""" (
  "order" int, "Line No" smallint, "Größe" char(5), "class" text, "日本" text, "2nd" int, "int" int,
  sa int, metadata text, "_private" text, when_ timestamptz NOT NULL DEFAULT '2024-01-01',
  PRIMARY KEY ("order", "Line No")
);
INSERT INTO "Sales Dept"."Order ""Lines"""
SELECT i, 1, 'L', 'c' || i, '日' || i, i, i, i, 'meta', 'private' FROM generate_series(1, 20) i;
CREATE TABLE "Sales Dept".article (id int PRIMARY KEY, t text);

CREATE TABLE slugs (slug text PRIMARY KEY, n int);
INSERT INTO slugs SELECT 'slug/' || i || ' "q" ''\', i FROM generate_series(1, 20) i;
CREATE TABLE codes (code citext PRIMARY KEY, name text);
INSERT INTO codes VALUES ('Ab', 'x'), ('cd', 'y');
CREATE TABLE moods (m mood PRIMARY KEY, note text);
INSERT INTO moods VALUES ('sad', 'one'), ('happy', 'two');
CREATE TABLE padded (code char(4) PRIMARY KEY, v text);
INSERT INTO padded VALUES ('ab', 'one'), ('abcd', 'two');
CREATE TABLE timed (at timestamptz, day date, id int, v text, PRIMARY KEY (at, day, id));
INSERT INTO timed
SELECT timestamptz '2024-01-01' + i * interval '1 min', '2024-01-01', i, 'v' || i
FROM generate_series(1, 20) i;
CREATE TABLE days (day date PRIMARY KEY, v text);
INSERT INTO days VALUES ('2024-01-02', 'x');
CREATE TABLE floats (f float8 PRIMARY KEY, v text);
INSERT INTO floats VALUES (0.1::float8 + 0.2::float8, 'x');
CREATE TABLE bytes (b bytea PRIMARY KEY, v text);
INSERT INTO bytes VALUES ('\x00ff27', 'x');
CREATE TABLE uuids (u uuid PRIMARY KEY, v text);
INSERT INTO uuids VALUES (md5('x')::uuid, 'x');
CREATE TABLE decimals (n numeric PRIMARY KEY, v text);
INSERT INTO decimals VALUES (1.0, 'x'), (2.50, 'y');
CREATE TABLE part (id int, at date, t text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
INSERT INTO part SELECT i, '2024-05-05', 'p' || i FROM generate_series(1, 20) i;
CREATE TABLE link (a int, b int, PRIMARY KEY (a, b));
INSERT INTO link SELECT i, i + 1 FROM generate_series(1, 20) i;
CREATE TABLE "表" (id int PRIMARY KEY, "名" text);
INSERT INTO "表" VALUES (1, '名前');
CREATE TABLE "None" (id int PRIMARY KEY, derive text, name text, "row" int);
INSERT INTO "None" VALUES (1, 'd', 'n', 3);
CREATE TABLE empty_one (id int PRIMARY KEY, t text);

-- What cannot be adopted.
CREATE TABLE no_key (a text);
CREATE TABLE parent (id int PRIMARY KEY, t text);
CREATE TABLE child (extra int) INHERITS (parent);
CREATE TABLE networks (net inet PRIMARY KEY, t text);
CREATE VIEW looked_at AS SELECT 1 AS x;
CREATE MATERIALIZED VIEW kept AS SELECT 1 AS x;
