-- One row per origin airport: its whole period, and the worst week it had. Published.
--
-- A week counts if all its seven days had departures, 50 or more together (so the short windows at the start of the
-- data do not); the worst has the highest rolling mean, and of two alike the earlier. NULL: no week counted.
with
totals as (
    select
        airport                     as airport,
        count(*)                    as days_with_departures,
        sum(departures)             as departures,
        sum(late_departures)        as late_departures,
        sum(total_delay_minutes)    as total_delay_minutes
    from airport_days
    group by airport
),
weeks as (
    select
        airport                     as airport,
        flight_date                 as week_ending,
        rolling_delay_minutes       as delay_minutes,
        row_number() over (
            partition by airport
            order by rolling_delay_minutes desc, flight_date
        )                           as badness
    from airport_rolling_delays
    where window_days = 7
      and window_departures >= 50
)
select
    totals.airport                                                              as airport,
    airports_clean.airport_name                                                 as airport_name,
    airports_clean.city                                                         as city,
    airports_clean.state                                                        as state,
    airports_clean.latitude                                                     as latitude,
    airports_clean.longitude                                                    as longitude,
    totals.days_with_departures                                                 as days_with_departures,
    totals.departures                                                           as departures,
    round(cast(totals.total_delay_minutes as double) / totals.departures, 2)    as mean_delay_minutes,
    round(100.0 * totals.late_departures / totals.departures, 1)                as late_percent,
    weeks.week_ending                                                           as worst_week_ending,
    weeks.delay_minutes                                                         as worst_week_delay_minutes
from totals
left join airports_clean on airports_clean.airport = totals.airport
left join weeks on weeks.airport = totals.airport and weeks.badness = 1
