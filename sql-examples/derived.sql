-- Derived nodes: a query over other nodes that has a place in the tree.
--
--     pond init demo && pond --pond demo sql -f sql-examples/derived.sql
--
-- The node holds the query and nothing of its answer: it shows what its sources hold now, and whoever
-- reads it cannot tell it from a table. Some readings and some events to begin with:
CREATE NODE '/host' FACTORY hostmount WITH (directory = 'sql-examples/data');

CREATE TABLE '/data/hourly_sensors.series' AS
SELECT timestamp, station, temperature, humidity FROM '/host/sensors/2025-12.csv';

CREATE TABLE '/logs/all_events.series' AS
SELECT timestamp, CASE WHEN minute(timestamp) < 30 THEN 'HIGH' ELSE 'LOW' END AS severity
FROM (SELECT unnest(range(now() - INTERVAL '47 hours 45 minutes', now(), INTERVAL '30 minutes')) AS timestamp);

-- A summary of each day. FROM names the source, which the query calls source_series, or just source.
-- REFRESH EVERY keeps the rows: they are served for an hour before they are made anew.
CREATE NODE '/analytics/daily_summary.series' FACTORY sql_derived_series
  FROM '/data/hourly_sensors.series'
  REFRESH EVERY '1h'
  AS SELECT DATE(timestamp) AS date, AVG(temperature) AS avg_temp, MAX(humidity) AS max_humidity
     FROM source_series GROUP BY DATE(timestamp);

SELECT date, round(avg_temp, 2) AS avg_temp, max_humidity
FROM '/analytics/daily_summary.series' ORDER BY date;
--> date       | avg_temp | max_humidity
-->------------+----------+--------------
--> 2025-12-01 |     2.34 |           87
--> 2025-12-02 |     2.39 |           92
--> 2025-12-03 |     2.59 |           92

-- Without REFRESH EVERY a node is live. This one shows the alerts of the last day, whenever that is.
CREATE NODE '/logs/high_priority_alerts.series' FACTORY sql_derived_series FROM '/logs/all_events.series'
  AS SELECT * FROM source_series WHERE severity = 'HIGH' AND timestamp > NOW() - INTERVAL '24 hours';

SELECT severity, count(*) AS alerts FROM '/logs/high_priority_alerts.series' GROUP BY severity;
--> severity | alerts
-->----------+--------
--> HIGH     |     24

-- Derived nodes are sources like any other: at which hours are alerts?
CREATE NODE '/logs/trending.table' FACTORY sql_derived_table FROM '/logs/high_priority_alerts.series'
  AS SELECT hour, COUNT(*) AS alert_count FROM (SELECT HOUR(timestamp) AS hour FROM source_series) GROUP BY hour ORDER BY alert_count DESC;

SELECT count(*) AS hours, sum(alert_count) AS alerts FROM '/logs/trending.table';
--> hours | alerts
-->-------+--------
-->    24 |     24

-- What is it made from, and what is made from it?
SHOW LINEAGE FOR '/logs/trending.table';
--> direction | depth | path                              | read_by                           | reads | entry_type  | factory            | error
-->-----------+-------+-----------------------------------+-----------------------------------+-------+-------------+--------------------+-------
--> upstream  |     1 | /logs/high_priority_alerts.series | /logs/trending.table              | NULL  | file:series | sql_derived_series | NULL
--> upstream  |     2 | /logs/all_events.series           | /logs/high_priority_alerts.series | NULL  | file:series | NULL               | NULL

SELECT depth, path, reads FROM lineage('/logs/all_events.series', 'downstream');
--> depth | path                              | reads
-->-------+-----------------------------------+-----------------------------------
-->     1 | /logs/high_priority_alerts.series | /logs/all_events.series
-->     2 | /logs/trending.table              | /logs/high_priority_alerts.series

-- A query may also name its sources itself, as any query does, and globs, too. CREATE VIEW is short for
-- CREATE NODE … FACTORY sql_derived_table, or, for a name that ends in .series, sql_derived_series.
CREATE TABLE '/a.series' AS
SELECT timestamp, station, temperature FROM '/data/hourly_sensors.series'
WHERE timestamp = '2025-12-01T12:00:00';

CREATE TABLE '/b.table' AS
SELECT * FROM (VALUES ('basel', 260), ('davos', 1560), ('zermatt', 1608)) AS v (station, height);

CREATE VIEW '/analytics/joined.table' AS SELECT * FROM '/a.series' a JOIN '/b.table' b USING (station);

SELECT * FROM '/analytics/joined.table' ORDER BY height;
--> timestamp           | station | temperature | height
-->---------------------+---------+-------------+--------
--> 2025-12-01T12:00:00 | basel   |         9.2 |    260
--> 2025-12-01T12:00:00 | davos   |         1.7 |   1560
--> 2025-12-01T12:00:00 | zermatt |         0.1 |   1608

-- New rows are seen at once by what is live; what is kept is as old as it says. REFRESH NODE makes it
-- anew now.
INSERT INTO '/data/hourly_sensors.series' VALUES ('2025-12-08T12:00:00', 'basel', 14.5, 40);

SELECT max(date) AS newest FROM '/analytics/daily_summary.series';
--> newest
-->------------
--> 2025-12-03

REFRESH NODE '/analytics/daily_summary.series';

SELECT max(date) AS newest FROM '/analytics/daily_summary.series';
--> newest
-->------------
--> 2025-12-08

SELECT path, factory, state FROM nodes() WHERE state IN ('live', 'fresh', 'stale') ORDER BY path;
--> path                              | factory            | state
-->-----------------------------------+--------------------+-------
--> /analytics/daily_summary.series   | sql_derived_series | fresh
--> /analytics/joined.table           | sql_derived_table  | live
--> /host                             | hostmount          | live
--> /logs/high_priority_alerts.series | sql_derived_series | live
--> /logs/trending.table              | sql_derived_table  | live

-- The statement that makes a node is kept, and can be changed.
SHOW CREATE NODE '/logs/high_priority_alerts.series';
--> path                              | create_statement
-->-----------------------------------+----------------------------------------------------------------------------------
--> /logs/high_priority_alerts.series | CREATE NODE '/logs/high_priority_alerts.series' FACTORY sql_derived_series FROM '/logs/all_events.series' AS SELECT * FROM source_series WHERE severity = 'HIGH' AND timestamp > NOW() - INTERVAL '24 hours'

ALTER NODE '/analytics/daily_summary.series' SET (refresh_interval = '15 minutes');

-- A query that does not work is never stored, nor one that would read itself. What others read is not
-- dropped by mistake either: DROP NODE refuses it and names them; CASCADE drops them, too.
DROP NODE '/logs/high_priority_alerts.series' CASCADE;
