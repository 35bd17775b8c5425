-- One row per airport and day with departures: the mean delay of the seven calendar days up to it. Published.
--
-- RANGE over the date, not ROWS: a small airport has no flight in the sample on many days, and seven *rows* would
-- reach weeks back. window_days says how many of the seven had departures; the first six days of the data see a
-- shorter window. The mean is total delay by total departures: a mean of daily means would give a quiet day the
-- say of a busy one.
with
rolling as (
    select
        airport                                     as airport,
        flight_date                                 as flight_date,
        departures                                  as departures,
        total_delay_minutes                         as total_delay_minutes,
        count(*)                 over last_7_days   as window_days,
        sum(departures)          over last_7_days   as window_departures,
        sum(late_departures)     over last_7_days   as window_late_departures,
        sum(total_delay_minutes) over last_7_days   as window_delay_minutes
    from airport_days
    window last_7_days as (
        partition by airport
        order by flight_date
        range between interval '6 days' preceding and current row
    )
)
select
    airport                                                             as airport,
    flight_date                                                         as flight_date,
    departures                                                          as departures,
    round(cast(total_delay_minutes as double) / departures, 2)          as mean_delay_minutes,
    window_days                                                         as window_days,
    window_departures                                                   as window_departures,
    round(cast(window_delay_minutes as double) / window_departures, 2)  as rolling_delay_minutes,
    round(100.0 * window_late_departures / window_departures, 1)        as rolling_late_percent
from rolling
