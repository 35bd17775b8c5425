-- Queries that are easily taken for one another, a line each: no two of a paragraph mean the same.

-- operators
select a - b as r from t
select b - a as r from t
select a / b as r from t
select b / a as r from t
select a % b as r from t
select b % a as r from t
select a + b as r from t
select a * b as r from t
select nullif(a,b) as r from t
select nullif(b,a) as r from t
select coalesce(a,b) as r from t
select coalesce(b,a) as r from t
select power(a,b) as r from t
select power(b,a) as r from t
select a < b as r from t
select a <= b as r from t
select a > b as r from t
select a >= b as r from t
select a = b as r from t
select a <> b as r from t
select a is distinct from b as r from t
select a is not distinct from b as r from t
select a & b as r from t
select a | b as r from t
select a ^ b as r from t
select a << b as r from t
select b << a as r from t
select a >> b as r from t

-- functions of text
select d || 'x' as r from t
select 'x' || d as r from t
select concat(d,'x') as r from t
select concat('x',d) as r from t
select concat_ws('x',d,d) as r from t
select replace(d,'a','b') as r from t
select replace(d,'b','a') as r from t
select strpos(d,'a') as r from t
select substr(d,1) as r from t
select substr(d,1,2) as r from t
select substr(d,2,1) as r from t
select left(d,1) as r from t
select right(d,1) as r from t
select lpad(d,2) as r from t
select lpad(d,2,'x') as r from t
select rpad(d,2,'x') as r from t

-- patterns
select d like 'a%' as r from t
select d not like 'a%' as r from t
select d ilike 'a%' as r from t
select d not ilike 'a%' as r from t
select d like 'a!%' escape '!' as r from t
select d like 'a!%' as r from t
select d like 'a!%' escape '#' as r from t
select d similar to 'a%' as r from t
select d not similar to 'a%' as r from t
select d ~ 'a' as r from t
select d ~* 'a' as r from t
select d !~ 'a' as r from t
select d !~* 'a' as r from t
select d = 'a%' as r from t

-- ranges and lists
select a between 1 and 2 as r from t
select a not between 1 and 2 as r from t
select a between 2 and 1 as r from t
select a in (1,2) as r from t
select a not in (1,2) as r from t
select a in (1) as r from t
select a in (1,2,3) as r from t
select a in (2,1,3) as r from t

-- CASE
select case when a>1 then b end as r from t
select case when a>1 then b else 0 end as r from t
select case when a>1 then b when b>1 then c end as r from t
select case when a>1 then c when b>1 then b end as r from t
select case a when 1 then b end as r from t
select case a when 1 then b else c end as r from t
select case when a>1 then b else c end as r from t
select case when a>1 then c else b end as r from t
select case b when 1 then a else c end as r from t

-- literals
select 1 as r from t
select '1' as r from t
select 1.0 as r from t
select true as r from t
select null as r from t
select 'NULL' as r from t
select '' as r from t
select ' ' as r from t
select '"' as r from t
select '(literal (i64) 1)' as r from t
select x'00' as r from t
select x'' as r from t
select cast(1 as int) as r from t
select cast(1 as smallint) as r from t
select cast(1 as decimal(10,2)) as r from t
select cast(1 as decimal(10,3)) as r from t
select cast(1 as decimal(12,2)) as r from t
select cast(1 as float) as r from t
select cast(null as bigint) as r from t
select cast('' as text) as r from t
select -1 as r from t
select - (1) as r from t
select 0.0 as r from t
select -0.0 as r from t
select cast('nan' as double) as r from t
select cast('-0.0' as double) as r from t
select cast('inf' as double) as r from t
select e'\n' as r from t
select '\n' as r from t

-- casts and rounding
select cast(a as decimal(10,2)) as r from t
select cast(a as decimal(10,3)) as r from t
select cast(a as decimal(12,2)) as r from t
select cast(a as int) as r from t
select cast(a as double) as r from t
select cast(a as float) as r from t
select try_cast(a as int) as r from t
select try_cast(a as double) as r from t
select cast(a as text) as r from t
select cast(cast(a as int) as bigint) as r from t
select a as r from t
select cast(cast(a as decimal(10,2)) as double) as r from t
select round(a) as r from t
select round(a,1) as r from t
select round(a,2) as r from t
select trunc(a) as r from t

-- times and zones
select timestamp '2020-01-01T00:00:00' as r from t
select timestamp '2020-01-01T00:00:00' at time zone 'UTC' as r from t
select timestamp '2020-01-01T00:00:00' at time zone 'Europe/Berlin' as r from t
select timestamp '2020-01-01T00:00:00' at time zone '+01:00' as r from t
select arrow_cast('2020-01-01T00:00:00','Timestamp(Nanosecond, None)') as r from t
select arrow_cast('2020-01-01T00:00:00','Timestamp(Microsecond, None)') as r from t
select arrow_cast('2020-01-01T00:00:00','Timestamp(Nanosecond, Some("+01:00"))') as r from t
select arrow_cast('2020-01-01T00:00:00','Timestamp(Nanosecond, Some("UTC"))') as r from t
select date '2020-01-01' as r from t
select to_timestamp(a) as r from t
select to_timestamp_seconds(a) as r from t
select to_timestamp_millis(a) as r from t
select to_timestamp(d) as r from t
select to_timestamp(d,'%Y') as r from t
select to_timestamp(d,'%y') as r from t
select date_trunc('month',to_timestamp(a)) as r from t
select date_trunc('day',to_timestamp(a)) as r from t
select extract(year from to_timestamp(a)) as r from t
select extract(month from to_timestamp(a)) as r from t
select date_part('dow',to_timestamp(a)) as r from t
select to_timestamp(a) at time zone 'UTC' as r from t
select to_timestamp(a) at time zone 'Europe/Berlin' as r from t
select to_timestamp(a) + interval '1 month' as r from t
select to_timestamp(a) + interval '30 days' as r from t
select to_timestamp(a) + interval '1 day' as r from t
select to_timestamp(a) + interval '24 hours' as r from t
select date_bin(interval '1 day', to_timestamp(a)) as r from t
select date_bin(interval '1 day', to_timestamp(a), timestamp '2020-01-01') as r from t

-- order and limits
select a from t order by a limit 1
select a from t order by a desc limit 1
select a from t order by a nulls first limit 1
select a from t order by a nulls last limit 2
select a from t order by a desc nulls last limit 1
select a from t order by a desc nulls first limit 2
select a from t order by a, b limit 1
select a from t order by b, a limit 1
select a from t order by b limit 1
select a from t order by a limit 2 offset 1
select a from t order by a limit 1 offset 2
select a from t order by a offset 1
select a from t order by a offset 2
select a from t order by a limit 0

-- DISTINCT
select distinct on (a) a, b from t order by a, b
select distinct on (a) a, b from t order by a, c
select distinct on (a) a, b from t order by a, b desc
select distinct on (b) a, b from t order by b, a
select distinct on (a, b) a, b from t order by a, b
select distinct on (b) a, b from t order by b
select distinct a, b from t
select a, b from t
select a, b from t group by a, b

-- frames
select sum(a) over (order by b ) as r from t
select sum(a) over (order by b rows unbounded preceding) as r from t
select sum(a) over (order by b rows between 1 preceding and current row) as r from t
select sum(a) over (order by b rows between 2 preceding and current row) as r from t
select sum(a) over (order by b rows between 1 following and 2 following) as r from t
select sum(a) over (order by b rows between current row and 1 following) as r from t
select sum(a) over (order by b range between 1 preceding and current row) as r from t
select sum(a) over (order by b groups between 1 preceding and current row) as r from t
select sum(a) over (order by b rows between unbounded preceding and unbounded following) as r from t
select sum(a) over (order by b range between unbounded preceding and unbounded following) as r from t
select sum(a) over (order by b rows between 1 preceding and 1 following) as r from t
select sum(a) over (order by b rows between 1 preceding and unbounded following) as r from t
select sum(a) over () as r from t
select sum(a) over (partition by b) as r from t
select sum(a) over (partition by b order by c) as r from t
select sum(a) over (partition by c order by b) as r from t
select sum(a) over (order by b desc) as r from t
select sum(a) over (order by b nulls first) as r from t
select sum(b) over (order by a) as r from t
select sum(distinct a) over (partition by b) as r from t
select sum(a) filter (where c > 1) over (order by b) as r from t
select sum(a) filter (where c > 2) over (order by b) as r from t

-- window functions
select lag(a) over (order by b) as r from t
select lag(a,2) over (order by b) as r from t
select lag(a,1,0) over (order by b) as r from t
select lead(a) over (order by b) as r from t
select lag(a) ignore nulls over (order by b) as r from t
select first_value(a) over (order by b) as r from t
select first_value(a) ignore nulls over (order by b) as r from t
select last_value(a) over (order by b) as r from t
select nth_value(a,1) over (order by b) as r from t
select nth_value(a,2) over (order by b) as r from t
select rank() over (order by b) as r from t
select dense_rank() over (order by b) as r from t
select row_number() over (order by b) as r from t
select ntile(2) over (order by b) as r from t
select ntile(3) over (order by b) as r from t
select percent_rank() over (order by b) as r from t
select cume_dist() over (order by b) as r from t

-- aggregate functions
select sum(a) as r from t
select sum(distinct a) as r from t
select sum(a) filter (where b>1) as r from t
select sum(a) filter (where b>2) as r from t
select sum(b) filter (where a>1) as r from t
select count(*) as r from t
select count(a) as r from t
select count(distinct a) as r from t
select count(distinct b) as r from t
select count(b) as r from t
select avg(a) as r from t
select min(a) as r from t
select max(a) as r from t
select median(a) as r from t
select stddev(a) as r from t
select stddev_pop(a) as r from t
select var_pop(a) as r from t
select corr(a,b) as r from t
select corr(b,a) as r from t
select covar_pop(a,b) as r from t
select regr_slope(a,b) as r from t
select regr_slope(b,a) as r from t
select string_agg(d,',') as r from t
select string_agg(d,';') as r from t
select string_agg(d,',' order by a) as r from t
select string_agg(d,',' order by a desc) as r from t
select string_agg(distinct d,',') as r from t
select array_agg(a) as r from t
select array_agg(a order by b) as r from t
select array_agg(a order by b desc) as r from t
select array_agg(a order by b nulls first) as r from t
select array_agg(distinct a) as r from t
select array_agg(a) filter (where a is not null) as r from t
select first_value(a order by b) as r from t
select first_value(a order by c) as r from t
select first_value(a) as r from t
select last_value(a order by b) as r from t
select nth_value(a,2 order by b) as r from t
select approx_percentile_cont(a,0.5) as r from t
select approx_percentile_cont(a,0.6) as r from t
select approx_percentile_cont(0.5) within group (order by a) as r from t
select approx_percentile_cont(0.5) within group (order by a desc) as r from t
select approx_percentile_cont(0.5) within group (order by b) as r from t
select bit_and(a) as r from t
select bit_or(a) as r from t
select bool_and(a>1) as r from t
select bool_or(a>1) as r from t
select first_value(a) ignore nulls as r from t
select first_value(a order by b) ignore nulls as r from t
select sum(a)+sum(b) as r from t
select sum(a+b) as r from t
select sum(a-b) as r from t
select sum(b-a) as r from t
select sum(a)-sum(b) as r from t
select sum(b)-sum(a) as r from t

-- grouping sets
select a, b, sum(c) as s from t group by a, b
select a, b, sum(c) as s from t group by rollup(a, b)
select a, b, sum(c) as s from t group by rollup(b, a)
select a, b, sum(c) as s from t group by cube(a, b)
select a, b, sum(c) as s from t group by cube(b, a)
select a, b, sum(c) as s from t group by grouping sets((a,b))
select a, b, sum(c) as s from t group by grouping sets((a),(b))
select a, b, sum(c) as s from t group by grouping sets((a,b),())
select a, b, sum(c) as s from t group by grouping sets((a,b),(a))
select a, b, sum(c) as s from t group by grouping sets((a),(b),())
select a, b, sum(c) as s from t group by a, rollup(b)
select a, b, sum(c) as s from t group by b, rollup(a)
select a, b, sum(c) as s from t group by grouping sets((a),(a),(b))

-- joins
select x.a as p, y.a as q, x.e as r, y.g as s from u x join w y on x.a = y.a
select x.a as p, y.a as q, x.e as r, y.g as s from u x join w y on x.a = y.e
select x.a as p, y.a as q, x.e as r, y.g as s from u x join w y on x.e = y.a
select x.a as p, y.a as q, x.e as r, y.g as s from u x join w y on x.a = y.a and x.e > 1
select x.a as p, y.a as q, x.e as r, y.g as s from u x join w y on x.a = y.a and y.e > 1
select x.a as p, y.a as q, x.e as r, y.g as s from u x join w y on x.a is not distinct from y.a
select x.a as p, y.a as q, x.e as r, y.g as s from u x join w y on x.a < y.a
select x.a as p, y.a as q, x.e as r, y.g as s from u x join w y on x.a > y.a
select x.a as p, y.a as q, x.e as r, y.g as s from u x join w y on x.a = y.a and x.e = y.e
select x.a as p, y.a as q, x.e as r, y.g as s from u x join w y on x.a = y.a or x.e = y.e
select x.a as p, y.a as q, x.e as r, y.g as s from u x left join w y on x.a = y.a
select x.a as p, y.a as q, x.e as r, y.g as s from u x left join w y on x.a = y.e
select x.a as p, y.a as q, x.e as r, y.g as s from u x left join w y on x.e = y.a
select x.a as p, y.a as q, x.e as r, y.g as s from u x left join w y on x.a = y.a and x.e > 1
select x.a as p, y.a as q, x.e as r, y.g as s from u x left join w y on x.a = y.a and y.e > 1
select x.a as p, y.a as q, x.e as r, y.g as s from u x left join w y on x.a is not distinct from y.a
select x.a as p, y.a as q, x.e as r, y.g as s from u x left join w y on x.a < y.a
select x.a as p, y.a as q, x.e as r, y.g as s from u x left join w y on x.a > y.a
select x.a as p, y.a as q, x.e as r, y.g as s from u x left join w y on x.a = y.a and x.e = y.e
select x.a as p, y.a as q, x.e as r, y.g as s from u x left join w y on x.a = y.a or x.e = y.e
select x.a as p, y.a as q, x.e as r, y.g as s from u x right join w y on x.a = y.a
select x.a as p, y.a as q, x.e as r, y.g as s from u x right join w y on x.a = y.e
select x.a as p, y.a as q, x.e as r, y.g as s from u x right join w y on x.e = y.a
select x.a as p, y.a as q, x.e as r, y.g as s from u x right join w y on x.a = y.a and x.e > 1
select x.a as p, y.a as q, x.e as r, y.g as s from u x right join w y on x.a = y.a and y.e > 1
select x.a as p, y.a as q, x.e as r, y.g as s from u x right join w y on x.a is not distinct from y.a
select x.a as p, y.a as q, x.e as r, y.g as s from u x right join w y on x.a < y.a
select x.a as p, y.a as q, x.e as r, y.g as s from u x right join w y on x.a > y.a
select x.a as p, y.a as q, x.e as r, y.g as s from u x right join w y on x.a = y.a and x.e = y.e
select x.a as p, y.a as q, x.e as r, y.g as s from u x right join w y on x.a = y.a or x.e = y.e
select x.a as p, y.a as q, x.e as r, y.g as s from u x full join w y on x.a = y.a
select x.a as p, y.a as q, x.e as r, y.g as s from u x full join w y on x.a = y.e
select x.a as p, y.a as q, x.e as r, y.g as s from u x full join w y on x.e = y.a
select x.a as p, y.a as q, x.e as r, y.g as s from u x full join w y on x.a = y.a and x.e > 1
select x.a as p, y.a as q, x.e as r, y.g as s from u x full join w y on x.a = y.a and y.e > 1
select x.a as p, y.a as q, x.e as r, y.g as s from u x full join w y on x.a is not distinct from y.a
select x.a as p, y.a as q, x.e as r, y.g as s from u x full join w y on x.a < y.a
select x.a as p, y.a as q, x.e as r, y.g as s from u x full join w y on x.a > y.a
select x.a as p, y.a as q, x.e as r, y.g as s from u x full join w y on x.a = y.a and x.e = y.e
select x.a as p, y.a as q, x.e as r, y.g as s from u x full join w y on x.a = y.a or x.e = y.e

-- conditions of joins
select x.e as r from u x join w y on x.a = y.a where x.e > 1
select y.e as r from u x join w y on x.a = y.a where x.e > 1
select x.e as r from u x join w y on x.a = y.a where y.e > 1
select x.e as r from u x left join w y on x.a = y.a where y.e > 1
select x.e as r from u x left join w y on x.a = y.a and y.e > 1
select x.e as r from w x join u y on x.a = y.a where y.e > 1
select x.e as r from u x left semi join w y on x.a = y.a
select x.e as r from u x left anti join w y on x.a = y.a
select y.e as r from u x right semi join w y on x.a = y.a
select y.e as r from u x right anti join w y on x.a = y.a
select x.e as r from u x join w y using (a)
select y.e as r from u x join w y using (a)
select x.e as r from u x join w y using (a, e)
select x.e as r from u x cross join w y
select y.e as r from u x cross join w y
select y.e as r from w x cross join u y

-- subqueries
select a from t where exists (select 1 from u where u.a = t.a)
select a from t where exists (select 1 from u where u.a = t.b)
select a from t where exists (select 1 from u where u.e = t.a)
select a from t where not exists (select 1 from u where u.a = t.a)
select a from t where a in (select a from u)
select a from t where a in (select e from u)
select a from t where b in (select a from u)
select a from t where a not in (select a from u)
select a from t where a = any (select a from u)
select a from t where a = all (select a from u)
select a from t where a > any (select a from u)
select a from t where a > all (select a from u)
select a from t where a = (select max(a) from u)
select a from t where a = (select min(a) from u)
select a from t where a = (select max(e) from u)
select a from t where a = (select max(e) from u where u.a = t.a)
select a from t where a = (select max(e) from u where u.a = t.b)
select a from t where exists (select 1 from u where u.a = a)
select a from t where exists (select 1 from u where e = a)
select a from t where exists (select 1 from u where e = b)
select a from t where exists (select 1 from u where f = b)
select a from t where exists (select 1 from u where exists (select 1 from w where w.a = u.a and w.e = t.a))
select a from t where exists (select 1 from u where exists (select 1 from w where w.a = t.a and w.e = u.a))
select a from t where exists (select 1 from u where exists (select 1 from w where w.a = u.a and w.e = u.e))

-- names of columns
select a as x, b as y from t
select b as x, a as y from t
select a as y, b as x from t
select b as y, a as x from t
select x, y from (select a as x, b as y from t)
select y as x, x as y from (select a as x, b as y from t)
select a as x, a as y from t
select b as x, b as y from t

-- case of names of columns
select a as "R" from t
select a as r from t
select b as "R" from t
select b as r from t

-- case of inner names
select r from (select a as "R", b as r from t)
select "R" as r from (select a as "R", b as r from t)
select r from (select b as "R", a as r from t)

-- sets
select a from t union select e from u
select a from t union all select e from u
select e from u union all select a from t
select a from t intersect select e from u
select a from t intersect all select e from u
select a from t except select e from u
select a from t except all select e from u
select a from t union all select a from t
select a from t union all select a from t union all select a from t
(select a from t union select e from u) union all select e from w
select a from t union (select e from u union all select e from w)
select a from t union all (select e from u union select e from w)

-- nested values
select named_struct('a',a) as r from t
select named_struct('b',a) as r from t
select named_struct('a',b) as r from t
select named_struct('a',a,'b',b) as r from t
select named_struct('b',b,'a',a) as r from t
select struct(a,b) as r from t
select struct(b,a) as r from t
select make_array(a,b) as r from t
select make_array(b,a) as r from t
select make_array(a) as r from t
select s['p'] as r from t
select s['q'] as r from t
select s as r from t
select xs as r from t
select xs[1] as r from t
select xs[2] as r from t
select xs[-1] as r from t
select array_slice(xs,1,2) as r from t
select array_slice(xs,2,1) as r from t
select map(['a'],[a]) as r from t
select map(['b'],[a]) as r from t
select unnest(xs) as r from t
select unnest(make_array(a,b)) as r from t
select unnest(make_array(b,a)) as r from t
select array_sort(xs) as r from t
select array_sort(xs,'desc') as r from t
select array_sort(xs,'asc','nulls last') as r from t
select array_position(xs,1) as r from t
select array_remove(xs,1) as r from t

-- CTEs
with x as (select a as r from t) select r from x
with x as (select b as r from t) select r from x
with x as (select a as r, b as q from t), y as (select q as r, r as q from x) select r + 2*q as r from y
with x as (select a as r, b as q from t), y as (select r, q from x) select r + 2*q as r from y
with recursive z(n) as (select a from t union all select n+1 from z where n<3) select n as r from z
with recursive z(n) as (select a from t union select n+1 from z where n<3) select n as r from z
with recursive z(n) as (select a from t union all select n+2 from z where n<3) select n as r from z
with recursive z(n) as (select b from t union all select n+1 from z where n<3) select n as r from z
with recursive z(n) as (select a from t union all select n+1 from z where n<4) select n as r from z

-- lateral subqueries
select v.x as r from t, lateral (values (t.a), (t.b)) as v(x)
select v.x as r from t, lateral (values (t.b), (t.b)) as v(x)
select l.m as r from t, lateral (select max(e) as m from u where u.a = t.a) l
select l.m as r from t, lateral (select max(e) as m from u where u.a = t.b) l
select l.m as r from t left join lateral (select max(e) as m from u where u.a = t.a) l on true
select l.m as r from t, (select max(e) as m from u) l
select l.e as r from t, lateral (select e from u where u.a = t.a limit 1) l

-- rows
select column1 as r from (values (1),(2))
select column1 as r from (values (1))
select column1 as r from (values (1,2))
select column2 as r from (values (1,2))
select column1 as r from (values (2,1))
select column1 as r from (values (1),(null))
select column1 as r from (values ('1'),('2'))
