-- One row per flight that can be trusted, with the columns every later view counts by.
--
-- Left out: flights with a missing field (a comparison with NULL is not true, so each condition below also
-- asks for a value), flights of no distance or from an airport to itself, and arrivals 23 hours late or more.
-- The last look like a clock error: a plane a little early, across midnight, reported as nearly a day late.
-- data_quality counts what each rule removes.
--
-- "Late" is the DOT's own definition: arriving 15 minutes or more after schedule.
select
    cast(date as date)                      as flight_date,
    to_char(date, '%Y-%m')                  as month,
    cast(date_part('hour', date) as int)    as departure_hour,
    origin                                  as origin,
    destination                             as destination,
    cast(distance as int)                   as distance_miles,
    cast(delay as int)                      as delay_minutes,
    delay >= 15                             as is_late
from flights
where date is not null
  and delay < 23 * 60
  and distance > 0
  and origin <> destination
