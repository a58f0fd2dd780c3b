-- Nodes: making, changing, showing and dropping them. Each statement is one transaction.

CREATE NODE IF NOT EXISTS '/logs/app' FACTORY hostmount
WITH (directory = 'sql-examples/data/events') COMMENT 'what was done at the stations';

-- Again: nothing to do, and no transaction.
CREATE NODE IF NOT EXISTS '/logs/app' FACTORY hostmount WITH (directory = 'sql-examples/data/events');

SELECT factory, description FROM factories();
--> factory            | description
-->--------------------+--------------------------------------------------------
--> hostmount          | a host directory, live and read-only
--> sql_derived_series | a series that is a query over other nodes
--> sql_derived_table  | a table that is a query over other nodes
--> temporal_reduce    | a directory that shows a series at several resolutions
--> csv_directory      | a directory that shows CSV files as tables or series
--> csv_to_parquet     | a CSV file as a table or a series

-- SHOW NODES is the short form of this for one directory; SHOW NODES RECURSIVE, for all below it.
SELECT path, entry_type, factory, comment FROM nodes() ORDER BY path;
--> path      | entry_type | factory   | comment
-->-----------+------------+-----------+-------------------------------
--> /logs     | directory  | NULL      | NULL
--> /logs/app | directory  | hostmount | what was done at the stations

ALTER NODE '/logs/app' SET COMMENT 'maintenance';

ALTER NODE '/logs/app' RENAME TO '/maintenance';

SELECT station, sum(minutes) AS minutes FROM '/maintenance/*.json' GROUP BY station ORDER BY station;
--> station | minutes
-->---------+---------
--> basel   |      45
--> davos   |      30
--> lugano  |      30
--> zermatt |      90

DROP NODE '/maintenance';

-- What was done, and by which statement.
SELECT txn, message FROM pond_log() ORDER BY txn;
--> txn | message
-->-----+----------------------------------------------------------------------------------
-->   1 | CREATE NODE IF NOT EXISTS '/logs/app' FACTORY hostmount+
-->     | WITH (directory = 'sql-examples/data/events') COMMENT 'what was done at the stations'
-->   2 | ALTER NODE '/logs/app' SET COMMENT 'maintenance'
-->   3 | ALTER NODE '/logs/app' RENAME TO '/maintenance'
-->   4 | DROP NODE '/maintenance'
