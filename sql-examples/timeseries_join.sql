-- Several series on one time axis: a row for each time, a column for each station.
--
-- Loggers start and stop when they like: these two have one reading in common.
CREATE TABLE '/raw/basel.series' AS SELECT * FROM (VALUES
  (TIMESTAMP '2026-01-01 00:20:00', 4.5, 71), (TIMESTAMP '2026-01-01 00:40:00', 4.0, 72),
  (TIMESTAMP '2026-01-01 01:20:00', 3.5, 75)) AS v (timestamp, temperature, humidity);

CREATE TABLE '/raw/davos.series' AS SELECT * FROM (VALUES
  (TIMESTAMP '2026-01-01 00:40:00', -6.0, 60), (TIMESTAMP '2026-01-01 01:00:00', -6.5, 61),
  (TIMESTAMP '2026-01-01 02:10:00', -8.0, 66)) AS v (timestamp, temperature, humidity);

-- FULL JOIN keeps the times of either, and coalesce takes the one that is there. The engine's USING
-- (timestamp) would do for an inner join; in a FULL JOIN it shows the time of the left side only. The
-- columns get a prefix: a node with two of one name is refused.
CREATE VIEW '/joined/pair.series' AS
SELECT coalesce(basel.timestamp, davos.timestamp) AS timestamp,
       basel.temperature AS basel_temperature, basel.humidity AS basel_humidity,
       davos.temperature AS davos_temperature, davos.humidity AS davos_humidity
FROM '/raw/basel.series' AS basel
FULL JOIN '/raw/davos.series' AS davos ON basel.timestamp = davos.timestamp;

SELECT * FROM '/joined/pair.series' ORDER BY timestamp;
--> timestamp           | basel_temperature | basel_humidity | davos_temperature | davos_humidity
-->---------------------+-------------------+----------------+-------------------+----------------
--> 2026-01-01T00:20:00 |               4.5 |             71 |              NULL |           NULL
--> 2026-01-01T00:40:00 |               4.0 |             72 |              -6.0 |             60
--> 2026-01-01T01:00:00 |              NULL |           NULL |              -6.5 |             61
--> 2026-01-01T01:20:00 |               3.5 |             75 |              NULL |           NULL
--> 2026-01-01T02:10:00 |              NULL |           NULL |              -8.0 |             66

-- With many series it is simpler to put them below each other and to gather the rows of each time. A
-- filter on the time then reaches the files of each series, too.
CREATE VIEW '/joined/all.series' AS
SELECT timestamp, max(basel_temperature) AS basel_temperature, max(davos_temperature) AS davos_temperature
FROM (SELECT timestamp, temperature AS basel_temperature FROM '/raw/basel.series'
      UNION ALL BY NAME
      SELECT timestamp, temperature AS davos_temperature FROM '/raw/davos.series')
GROUP BY timestamp;

SELECT * FROM '/joined/all.series' WHERE timestamp >= '2026-01-01T00:30:00' ORDER BY timestamp;
--> timestamp           | basel_temperature | davos_temperature
-->---------------------+-------------------+-------------------
--> 2026-01-01T00:40:00 |               4.0 |              -6.0
--> 2026-01-01T01:00:00 |              NULL |              -6.5
--> 2026-01-01T01:20:00 |               3.5 |              NULL
--> 2026-01-01T02:10:00 |              NULL |              -8.0

-- Series of different rhythms are brought to a common one first: temporal_reduce shows each at several
-- resolutions, as series of their own.
CREATE NODE '/reduced/basel' FACTORY temporal_reduce FROM '/raw/basel.series'
  WITH (resolutions = ('1h', '1d'), aggregates = ('avg', 'max'), columns = ('temperature'));

CREATE NODE '/reduced/davos' FACTORY temporal_reduce FROM '/raw/davos.series'
  WITH (resolutions = ('1h', '1d'), aggregates = ('avg', 'max'), columns = ('temperature'));

SELECT path FROM ls('/reduced', recursive => true) WHERE entry_type = 'file:series' ORDER BY path;
--> path
-->------------------------------
--> /reduced/basel/res=1d.series
--> /reduced/basel/res=1h.series
--> /reduced/davos/res=1d.series
--> /reduced/davos/res=1h.series

SELECT * FROM '/reduced/basel/res=1h.series' ORDER BY timestamp;
--> timestamp           | temperature_avg | temperature_max | count
-->---------------------+-----------------+-----------------+-------
--> 2026-01-01T00:00:00 |            4.25 |             4.5 |     2
--> 2026-01-01T01:00:00 |             3.5 |             3.5 |     1

CREATE VIEW '/joined/hourly.series' AS
SELECT timestamp, max(basel) AS basel_temperature, max(davos) AS davos_temperature
FROM (SELECT timestamp, temperature_avg AS basel FROM '/reduced/basel/res=1h.series'
      UNION ALL BY NAME
      SELECT timestamp, temperature_avg AS davos FROM '/reduced/davos/res=1h.series')
GROUP BY timestamp;

SELECT * FROM '/joined/hourly.series' ORDER BY timestamp;
--> timestamp           | basel_temperature | davos_temperature
-->---------------------+-------------------+-------------------
--> 2026-01-01T00:00:00 |              4.25 |              -6.0
--> 2026-01-01T01:00:00 |               3.5 |              -6.5
--> 2026-01-01T02:00:00 |              NULL |              -8.0

SELECT * FROM '/joined/hourly.series' WHERE timestamp >= '2026-01-01T02:00:00';
--> timestamp           | basel_temperature | davos_temperature
-->---------------------+-------------------+-------------------
--> 2026-01-01T02:00:00 |              NULL |              -8.0

-- What is it all made from?
SELECT depth, path, read_by FROM lineage('/joined/hourly.series', 'upstream');
--> depth | path                         | read_by
-->-------+------------------------------+------------------------------
-->     1 | /reduced/basel/res=1h.series | /joined/hourly.series
-->     1 | /reduced/davos/res=1h.series | /joined/hourly.series
-->     2 | /reduced/basel               | /reduced/basel/res=1h.series
-->     2 | /reduced/davos               | /reduced/davos/res=1h.series
-->     3 | /raw/basel.series            | /reduced/basel
-->     3 | /raw/davos.series            | /reduced/davos
