-- One row per month: what the cleaning removed, and why.
--
-- The reasons may overlap; rows_read - rows_kept is what was really lost. A flight of an unknown airport is
-- kept (its delay is as good as any), but has no city or state in the views that join airports_clean.
with
rows_in as (
    select
        to_char(f.date, '%Y-%m')                            as month,
        count(*)                                            as rows_read,
        count(*) filter (
            where f.date is null or f.delay is null or f.distance is null
               or f.origin is null or f.destination is null
        )                                                   as missing_field,
        count(*) filter (where f.delay >= 23 * 60)          as clock_error,
        count(*) filter (where f.distance <= 0)             as bad_distance,
        count(*) filter (where f.origin = f.destination)    as same_airport,
        count(*) filter (
            where o.airport is null or d.airport is null
        )                                                   as unknown_airport
    from flights as f
    left join airports_clean as o on o.airport = f.origin
    left join airports_clean as d on d.airport = f.destination
    group by to_char(f.date, '%Y-%m')
),
rows_out as (
    select
        month       as month,
        count(*)    as rows_kept
    from flights_clean
    group by month
)
select
    rows_in.month                       as month,
    rows_in.rows_read                   as rows_read,
    coalesce(rows_out.rows_kept, 0)     as rows_kept,
    rows_in.missing_field               as missing_field,
    rows_in.clock_error                 as clock_error,
    rows_in.bad_distance                as bad_distance,
    rows_in.same_airport                as same_airport,
    rows_in.unknown_airport             as unknown_airport
from rows_in
left join rows_out on rows_out.month = rows_in.month
