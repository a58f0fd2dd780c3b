CREATE NODE '/x' FACTORY hostmount WITH (directory = 'data');
-- this one fails
SELECT nothing
FROM '/x/a.csv';
SELECT 'not reached';
