---
source: shop
key: email
---
-- One row per customer, with what they have spent.
SELECT c.email,
       c.first_name,
       c.last_name,
       c.city,
       count(o.id)                                          AS orders,
       printf('%d.%02d', coalesce(sum(o.cents), 0) / 100, coalesce(sum(o.cents), 0) % 100) AS spent
FROM customers AS c
LEFT JOIN orders AS o ON o.customer = c.id
GROUP BY c.id
