-- One row an order that was paid.
select
    order_id,
    ordered_on,
    customer,
    amount_cents
from orders
where status = 'paid'
