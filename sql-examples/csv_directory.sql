-- csv_directory: piles of CSV as tables, or as series, in a directory of their own.
--
--     pond init demo && pond --pond demo sql -f sql-examples/csv_directory.sql
--
-- Some CSV files, here those of a host directory; files of the pond, and of other directories that a
-- factory makes, do as well.
CREATE NODE '/host' FACTORY hostmount WITH (directory = 'sql-examples/data');

-- The directory is a pattern. Its files are found when it is looked at, and converted to Parquet when
-- they are first read; a conversion serves for as long as its file stays what it is, and at most for
-- the time of cache_ttl.
CREATE NODE '/processed/sensor_series' FACTORY csv_directory
  WITH (source_pattern = '/host/sensors/*.csv', target_type = 'series', temporal_column = 'timestamp', cache_ttl = '6h');

-- A file is called as its source is, without its endings. Of two that would share a name, each has as
-- much more of its path as tells it from the other.
SELECT name, entry_type, factory FROM ls('/processed/sensor_series') ORDER BY name;
--> name           | entry_type  | factory
-->----------------+-------------+---------------
--> 2025-11.series | file:series | csv_directory
--> 2025-12.series | file:series | csv_directory

SELECT station, temperature FROM '/processed/sensor_series/2025-12.series'
WHERE timestamp > '2025-12-03' AND temperature > 8 ORDER BY temperature DESC LIMIT 3;
--> station | temperature
-->---------+-------------
--> lugano  |        12.1
--> lugano  |        11.3
--> basel   |        10.1

-- All of them are one table, whose columns are matched by name.
SELECT station, count(*) AS readings, count(humidity) AS with_humidity
FROM '/processed/sensor_series/*.series' GROUP BY station ORDER BY station;
--> station | readings | with_humidity
-->---------+----------+---------------
--> basel   |       24 |            12
--> davos   |       24 |            12
--> lugano  |       24 |            12
--> zermatt |       24 |            12

-- They are sources like any other.
CREATE VIEW '/daily.series' AS
SELECT date_trunc('day', timestamp) AS day, round(avg(temperature), 1) AS mean
FROM '/processed/sensor_series/*.series' GROUP BY 1;

SELECT * FROM '/daily.series' ORDER BY day LIMIT 2;
--> day                 | mean
-->---------------------+------
--> 2025-11-28T00:00:00 |  2.9
--> 2025-11-29T00:00:00 |  2.5

SELECT depth, path FROM lineage('/daily.series', 'upstream');
--> depth | path
-->-------+-----------------------------------
-->     1 | /processed/sensor_series/*.series
-->     2 | /processed/sensor_series
-->     3 | /host/sensors/*.csv
-->     4 | /host

-- How a text is written is detected, unless it is said. This is one file by itself.
CREATE NODE '/december.table' FACTORY csv_to_parquet
  WITH (source = '/host/sensors/2025-12.csv', delimiter = ',', has_header = true);

SELECT count(*) AS rows, max(temperature) AS warmest FROM '/december.table';
--> rows | warmest
-->------+---------
-->   48 |    13.2
