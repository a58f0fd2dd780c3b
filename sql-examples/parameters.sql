-- What the columns of a table hold, and statements whose values come from outside.
--
--     pond sql --param path=/host/sensors/2026.parquet --param above=9 -f sql-examples/parameters.sql
--
-- Lines that begin with --> are what pond prints; a test compares them.

CREATE NODE '/host' FACTORY hostmount WITH (directory = 'sql-examples/data');

-- One row a column: extremes, distinct values, mean, deviation, quartiles, nulls. The rows are read
-- once.
SUMMARIZE SELECT station, temperature FROM '/host/sensors/2026.parquet';
--> column_name | column_type | min   | max     | approx_unique | avg                | std                | q25                 | q50               | q75               | count | null_percentage
-->-------------+-------------+-------+---------+---------------+--------------------+--------------------+---------------------+-------------------+-------------------+-------+-----------------
--> station     | Utf8View    | basel | zermatt |             4 | NULL               | NULL               | NULL                | NULL              | NULL              |   672 |            0.00
--> temperature | Float64     | -8.8  | 15.0    |           217 | 3.1065476190476184 | 6.0992500565702805 | -1.9644444444444447 | 3.033928571428571 | 8.143333333333334 |   672 |            0.00

-- $path and $above are given on the command line. A value may stand wherever a literal may, and is
-- never read as SQL, whatever it holds.
SELECT station, max(temperature) AS warmest FROM $path
WHERE temperature > $above GROUP BY station ORDER BY warmest;
--> station | warmest
-->---------+---------
--> basel   |    12.5
--> lugano  |    15.0
