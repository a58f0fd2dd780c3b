-- A tour of pond: a directory of the host becomes a part of the pond, and its files are tables.
--
--     pond sql -f sql-examples/tour.sql
--
-- Lines that begin with --> are what pond prints; a test compares them.

-- A dynamic node stores only its recipe. This one shows the directory beside this file, live.
CREATE NODE '/host' FACTORY hostmount WITH (directory = 'sql-examples/data');

-- What is in it?
SELECT path, size FROM ls('/host', recursive => true)
WHERE entry_type <> 'directory' ORDER BY path;
--> path                          | size
-->-------------------------------+------
--> /host/events/maintenance.json |  388
--> /host/notes.txt               |  140
--> /host/sensors/2025-11.csv     | 1530
--> /host/sensors/2025-12.csv     | 1682
--> /host/sensors/2026.parquet    | 3830

-- A table's name is its path.
SELECT station, round(avg(temperature), 1) AS mean, count(*) AS readings
FROM '/host/sensors/2026.parquet' GROUP BY station ORDER BY mean;
--> station | mean | readings
-->---------+------+----------
--> zermatt | -3.4 |      168
--> davos   | -0.7 |      168
--> basel   |  6.7 |      168
--> lugano  |  9.8 |      168

-- A glob is one table. Its columns are matched by name, though the files order them differently.
SELECT count(*) AS readings, min(timestamp) AS first, max(timestamp) AS last
FROM '/host/sensors/*';
--> readings | first               | last
-->----------+---------------------+---------------------
-->      768 | 2025-11-28T00:00:00 | 2026-03-07T23:00:00

-- Files of different formats join like any tables.
SELECT m.day, m.station, m.work, round(avg(t.temperature), 1) AS mean
FROM '/host/events/maintenance.json' AS m
JOIN '/host/sensors/*' AS t
ON t.station = m.station AND CAST(t.timestamp AS DATE) = CAST(m.day AS DATE)
GROUP BY ALL ORDER BY m.day;
--> day        | station | work        | mean
-->------------+---------+-------------+------
--> 2025-11-29 | davos   | battery     | -1.5
--> 2025-12-02 | basel   | calibration |  5.9
--> 2026-03-02 | zermatt | ice         | -3.6
--> 2026-03-05 | davos   | firmware    | -0.7
--> 2026-03-06 | lugano  | calibration | 10.0

-- The pond knows what was done to it.
SELECT txn, message FROM pond_log();
--> txn | message
-->-----+------------------------------------------------------------------------------
-->   1 | CREATE NODE '/host' FACTORY hostmount WITH (directory = 'sql-examples/data')
