CREATE TABLE customers (
    id INTEGER PRIMARY KEY,
    email TEXT NOT NULL UNIQUE,
    first_name TEXT NOT NULL,
    last_name TEXT NOT NULL,
    city TEXT
);
CREATE TABLE orders (
    id INTEGER PRIMARY KEY,
    customer INTEGER NOT NULL REFERENCES customers (id),
    cents INTEGER NOT NULL
);

WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000),
first (i, name) AS (VALUES (0, 'Ada'), (1, 'Björn'), (2, 'Chloé'), (3, 'Darragh'), (4, 'Εἰρήνη'), (5, 'Fatima'), (6, '葛飾'), (7, 'Zoë')),
last (i, name) AS (VALUES (0, 'Lovelace'), (1, 'O''Brien'), (2, 'Müller'), (3, 'Ångström'), (4, 'Παπαδοπούλου'), (5, 'de la Cruz'), (6, '北斎')),
city (i, name) AS (VALUES (0, 'Graz'), (1, 'Αθήνα'), (2, 'Dublin'), (3, '東京'), (4, NULL))
INSERT INTO customers
SELECT n.i, 'customer' || n.i || '@example.com', first.name, last.name, city.name
FROM n JOIN first ON first.i = n.i % 8 JOIN last ON last.i = n.i % 7 JOIN city ON city.i = n.i % 5;

WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
INSERT INTO orders SELECT i, 1 + (i * 7919) % 1000, 500 + (i * 104729) % 20000 FROM n;
