-- One row per month over the whole country, with the change against the month before (NULL in the first).
with
months as (
    select
        month                       as month,
        count(distinct flight_date) as days,
        count(distinct airport)     as airports,
        sum(departures)             as flights,
        sum(late_departures)        as late_flights,
        sum(total_delay_minutes)    as total_delay_minutes
    from airport_days
    group by month
),
rates as (
    select
        months.*,
        round(cast(total_delay_minutes as double) / flights, 2) as mean_delay_minutes
    from months
)
select
    month                                       as month,
    days                                        as days,
    airports                                    as airports,
    flights                                     as flights,
    late_flights                                as late_flights,
    round(100.0 * late_flights / flights, 1)    as late_percent,
    mean_delay_minutes                          as mean_delay_minutes,
    round(
        mean_delay_minutes - lag(mean_delay_minutes) over (order by month), 2
    )                                           as change_minutes
from rates
