-- One row per origin airport and calendar day with at least one departure. Three views build on it.
select
    origin                              as airport,
    flight_date                         as flight_date,
    month                               as month,
    count(*)                            as departures,
    count(*) filter (where is_late)     as late_departures,
    sum(delay_minutes)                  as total_delay_minutes
from flights_clean
group by origin, flight_date, month
