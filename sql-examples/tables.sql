-- Tables and series: rows that the pond keeps, as Parquet, with all their versions.

-- A table is made from a query; its name is a path, and missing directories are made.
CREATE TABLE '/weather/stations.table' AS
SELECT * FROM (VALUES ('basel', 260), ('davos', 1560)) AS v (station, height);

-- Each change is a new version: INSERT, UPDATE, DELETE, CREATE OR REPLACE TABLE.
INSERT INTO '/weather/stations.table' (height, station) VALUES (273, 'lugano'), (1608, 'zermat');

UPDATE '/weather/stations.table' SET station = 'zermatt' WHERE height = 1608;

DELETE FROM '/weather/stations.table' WHERE height < 270;

SELECT * FROM '/weather/stations.table';
--> station | height
-->---------+--------
--> davos   |   1560
--> lugano  |    273
--> zermatt |   1608

-- A series grows: each INSERT adds a version, and all of them together are the table. It is
-- kept by its time column, `timestamp` unless WITH (temporal_column = …) names another, so that reading
-- a range, or the newest rows, reads little more than those. ORDER BY says in which order.
CREATE TABLE '/weather/readings.series' (timestamp TIMESTAMP, station VARCHAR, celsius DOUBLE);

INSERT INTO '/weather/readings.series' VALUES
  ('2026-01-02 12:00:00', 'davos', -4.5), ('2026-01-01 12:00:00', 'davos', -7.0);

INSERT INTO '/weather/readings.series' VALUES ('2026-01-01 12:00:00', 'lugano', 6.5);

SELECT r.timestamp, station, celsius, height
FROM '/weather/readings.series' AS r JOIN '/weather/stations.table' USING (station)
ORDER BY r.timestamp, station;
--> timestamp           | station | celsius | height
-->---------------------+---------+---------+--------
--> 2026-01-01T12:00:00 | davos   |    -7.0 |   1560
--> 2026-01-01T12:00:00 | lugano  |     6.5 |    273
--> 2026-01-02T12:00:00 | davos   |    -4.5 |   1560

-- COPY writes other formats; the ending of the name tells which.
COPY (SELECT station, max(celsius) AS warmest FROM '/weather/readings.series' GROUP BY station ORDER BY 1)
TO '/weather/warmest.csv';

SELECT * FROM '/weather/warmest.csv';
--> station | warmest
-->---------+---------
--> davos   |    -4.5
--> lugano  |     6.5

-- All of it is in the tree.
SELECT name, entry_type, version FROM ls('/weather') ORDER BY name;
--> name            | entry_type  | version
-->-----------------+-------------+---------
--> readings.series | file:series |       3
--> stations.table  | file:table  |       4
--> warmest.csv     | file:data   |       1
