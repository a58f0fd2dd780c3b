-- Transactions: outside of one, each statement is committed by itself; BEGIN … COMMIT makes any
-- number of changes one commit.

CREATE TABLE '/stock.table' AS
SELECT * FROM (VALUES ('apples', 10), ('pears', 4)) AS v (fruit, pieces);

BEGIN;

-- What it changes has no transaction number yet, and nobody else sees it.
UPDATE '/stock.table' SET pieces = pieces - 3 WHERE fruit = 'apples';

CREATE TABLE '/sold.table' AS SELECT 'apples' AS fruit, 3 AS pieces;

-- Statements inside see it.
SELECT s.fruit, s.pieces AS left_over, o.pieces AS sold
FROM '/stock.table' AS s JOIN '/sold.table' AS o USING (fruit);
--> fruit  | left_over | sold
-->--------+-----------+------
--> apples |         7 |    3

COMMIT;

-- ROLLBACK gives it all up.
BEGIN;

DROP TABLE '/stock.table', '/sold.table';

ROLLBACK;

SELECT path FROM nodes() ORDER BY path;
--> path
-->--------------
--> /sold.table
--> /stock.table

-- The log has one entry for what was committed together.
SELECT txn, changes FROM pond_log() ORDER BY txn;
--> txn | changes
-->-----+---------
-->   1 |       1
-->   2 |       2
