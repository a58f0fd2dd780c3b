-- hostmount: a directory of the host in the pond, live and strictly read-only.

-- A relative directory counts from where the shell runs; the pond keeps the absolute path. A
-- directory that is not there is refused, so a typing error is told at once.
CREATE NODE '/sensors' FACTORY hostmount WITH (directory = 'sql-examples/data/sensors');

-- The options a factory takes.
DESCRIBE FACTORY hostmount;
--> option    | takes          | required | default | description
-->-----------+----------------+----------+---------+----------------------------
--> directory | host directory | true     | NULL    | the host directory to show

-- Parquet, CSV, JSON lines and Arrow files are tables; names choose the format.
DESCRIBE '/sensors/2025-12.csv';
--> column_name | data_type     | is_nullable
-->-------------+---------------+-------------
--> station     | Utf8View      | YES
--> temperature | Float64       | YES
--> humidity    | Int64         | YES
--> timestamp   | Timestamp(µs) | YES

-- A column that some files of a glob lack is NULL there.
SELECT count(*) AS readings, count(humidity) AS with_humidity FROM '/sensors/2025-*.csv';
--> readings | with_humidity
-->----------+---------------
-->       96 |            48

-- Dropping the mount forgets the recipe. The host's files stay as they are.
DROP NODE '/sensors';
