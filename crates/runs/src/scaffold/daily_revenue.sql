-- One row a day.
select
    ordered_on,
    count(*) as orders,
    sum(amount_cents) as revenue_cents
from orders_clean
group by ordered_on
