-- ls(): directories as rows, of the pond and of the hosts mounted in it alike.

CREATE NODE '/host' FACTORY hostmount WITH (directory = 'sql-examples/data');

-- One directory. Rows come in no particular order: ask for one.
SELECT name, entry_type FROM ls('/host') ORDER BY name;
--> name      | entry_type
-->-----------+------------
--> events    | directory
--> notes.txt | file:data
--> sensors   | directory

-- Everything below. Conditions on path, name and depth, and a LIMIT, go into the walk: directories
-- that cannot hold a match are not opened.
SELECT path, depth FROM ls('/host', recursive => true) WHERE name LIKE '%.csv' ORDER BY path;
--> path                      | depth
-->---------------------------+-------
--> /host/sensors/2025-11.csv |     3
--> /host/sensors/2025-12.csv |     3

-- A glob: * and ? within a name, ** for any number of names, {a,b}, [a-z].
SELECT name, size FROM ls('/host/**/*.{csv,json}') ORDER BY name;
--> name             | size
-->------------------+------
--> 2025-11.csv      | 1530
--> 2025-12.csv      | 1682
--> maintenance.json |  388

-- It is a table like any other.
SELECT regexp_replace(name, '.*\.', '') AS extension, count(*) AS files, sum(size) AS bytes
FROM ls('/host', recursive => true) WHERE entry_type = 'file:data'
GROUP BY extension ORDER BY bytes DESC;
--> extension | files | bytes
-->-----------+-------+-------
--> parquet   |     1 |  3830
--> csv       |     2 |  3212
--> json      |     1 |   388
--> txt       |     1 |   140
