-- One row per hour of departure, 0 to 23, local to the origin.
--
-- It is the hour a plane really left, not the scheduled one: many flights of the small hours are the late ones
-- of the evening before. From 5 a.m. on, the table shows delay piling up over the day.
with
hours as (
    select
        departure_hour                      as departure_hour,
        count(*)                            as flights,
        count(*) filter (where is_late)     as late_flights,
        sum(delay_minutes)                  as total_delay_minutes
    from flights_clean
    group by departure_hour
)
select
    departure_hour                                              as departure_hour,
    flights                                                     as flights,
    late_flights                                                as late_flights,
    total_delay_minutes                                         as total_delay_minutes,
    round(cast(total_delay_minutes as double) / flights, 2)     as mean_delay_minutes,
    round(100.0 * late_flights / flights, 1)                    as late_percent
from hours
