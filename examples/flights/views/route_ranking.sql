-- The 50 worst busy routes of the whole period, one row each; rank 1 has the highest mean arrival delay.
--
-- Busy is 181 flights or more in this sample, one a day: a rarely flown route tops any list by accident.
-- Ties go to the airport codes, so that the fifty are the same fifty every time.
with
routes as (
    select
        origin                      as origin,
        destination                 as destination,
        min(origin_city)            as origin_city,
        min(destination_city)       as destination_city,
        sum(flights)                as flights,
        sum(late_flights)           as late_flights,
        sum(total_delay_minutes)    as total_delay_minutes,
        max(worst_delay_minutes)    as worst_delay_minutes
    from route_delays
    group by origin, destination
    having sum(flights) >= 181
),
ranked as (
    select
        routes.*,
        row_number() over (
            order by cast(total_delay_minutes as double) / flights desc, origin, destination
        ) as delay_rank
    from routes
)
select
    cast(delay_rank as int)                                     as delay_rank,
    origin                                                      as origin,
    origin_city                                                 as origin_city,
    destination                                                 as destination,
    destination_city                                            as destination_city,
    flights                                                     as flights,
    round(cast(total_delay_minutes as double) / flights, 2)     as mean_delay_minutes,
    round(100.0 * late_flights / flights, 1)                    as late_percent,
    worst_delay_minutes                                         as worst_delay_minutes
from ranked
where delay_rank <= 50
