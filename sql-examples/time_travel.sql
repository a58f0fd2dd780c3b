-- Time travel: every transaction can be read again, compared, and restored.

CREATE TABLE '/plan.table' AS SELECT 'draft' AS state, 3 AS pages;

INSERT INTO '/plan.table' VALUES ('review', 5);

CREATE OR REPLACE TABLE '/plan.table' AS SELECT 'final' AS state;

-- By the number of a transaction, or by time; behind a path in a FROM …
SELECT * FROM '/plan.table' VERSION AS OF 2;
--> state  | pages
-->--------+-------
--> draft  |     3
--> review |     5

SELECT count(*) AS rows_now FROM '/plan.table' TIMESTAMP AS OF now();
--> rows_now
-->----------
-->        1

-- … or in the path itself, which works for directories, too.
SELECT sum(pages) AS pages FROM '/plan.table@v2';
--> pages
-->-------
-->     8

SELECT path, version FROM ls('/@v1');
--> path        | version
-->-------------+---------
--> /plan.table |       1

-- What became of a node, and what a stretch of transactions changed.
SELECT txn, version, change, rows FROM history('/plan.table');
--> txn | version | change  | rows
-->-----+---------+---------+------
-->   1 |       1 | created |    1
-->   2 |       2 | updated |    2
-->   3 |       3 | updated |    1

DROP TABLE '/plan.table';

SELECT path, change, version_before, version_after FROM pond_diff(1, 4);
--> path        | change  | version_before | version_after
-->-------------+---------+----------------+---------------
--> /plan.table | removed |              1 |          NULL

-- What is gone comes back.
RESTORE NODE '/plan.table' TO VERSION 2;

SELECT * FROM '/plan.table';
--> state  | pages
-->--------+-------
--> draft  |     3
--> review |     5
