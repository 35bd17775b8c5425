-- One row per airport code.
--
-- Where the file does not know a city or a state it writes the two letters NA; they become NULL.
select
    iata                        as airport,
    name                        as airport_name,
    nullif(city, 'NA')          as city,
    nullif(state, 'NA')         as state,
    country                     as country,
    cast(latitude as double)    as latitude,
    cast(longitude as double)   as longitude
from airports
where iata is not null
