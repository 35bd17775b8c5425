-- One row per month and route (origin, destination), with both cities named. Published, partitioned by month.
--
-- Flights are summed before they meet the airports: the join sees thousands of rows, not hundreds of thousands.
-- The sums stay beside the mean, because sums can be added up again and means cannot.
with
routes as (
    select
        month                               as month,
        origin                              as origin,
        destination                         as destination,
        min(distance_miles)                 as distance_miles,
        count(*)                            as flights,
        count(*) filter (where is_late)     as late_flights,
        sum(delay_minutes)                  as total_delay_minutes,
        max(delay_minutes)                  as worst_delay_minutes
    from flights_clean
    group by month, origin, destination
)
select
    routes.month                            as month,
    routes.origin                           as origin,
    o.city                                  as origin_city,
    o.state                                 as origin_state,
    routes.destination                      as destination,
    d.city                                  as destination_city,
    d.state                                 as destination_state,
    routes.distance_miles                   as distance_miles,
    routes.flights                          as flights,
    routes.late_flights                     as late_flights,
    routes.total_delay_minutes              as total_delay_minutes,
    routes.worst_delay_minutes              as worst_delay_minutes,
    round(cast(routes.total_delay_minutes as double) / routes.flights, 2) as mean_delay_minutes
from routes
left join airports_clean as o on o.airport = routes.origin
left join airports_clean as d on d.airport = routes.destination
