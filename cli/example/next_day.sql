BEGIN;
INSERT INTO orders (customer, cents) VALUES (10, 4999), (20, 1250), (30, 100);
UPDATE customers SET city = 'Wien' WHERE id = 40;
INSERT INTO customers VALUES (1001, 'new.customer@example.com', 'Nína', 'Jónsdóttir', 'Reykjavík');
DELETE FROM orders WHERE customer = 50;
DELETE FROM customers WHERE id = 50;
COMMIT;
