"""What is asked of both databases: one text, or two where MySQL and SQLite write it differently."""

import dataclasses


@dataclasses.dataclass
class Query:
    """A question. `ordered` if the rows have exactly one order."""

    name: str
    mysql: str
    other: str | None = None
    ordered: bool = False

    @property
    def sqlite(self):
        return self.other or self.mysql


QUERIES = [
    Query("every row, every column", "SELECT * FROM flights"),
    Query("rows and NULLs of each column",
          "SELECT COUNT(*), COUNT(dep_time), COUNT(dep_delay), COUNT(arr_time), COUNT(arr_delay), COUNT(tailnum), "
          "COUNT(air_time), COUNT(time_hour) FROM flights"),
    Query("least, most, sum, average",
          "SELECT MIN(dep_delay), MAX(dep_delay), SUM(dep_delay), AVG(dep_delay), MIN(arr_delay), MAX(arr_delay), "
          "SUM(arr_delay), MIN(tailnum), MAX(tailnum), MIN(time_hour), MAX(time_hour) FROM flights"),
    Query("distinct values", "SELECT COUNT(DISTINCT tailnum), COUNT(DISTINCT dest), COUNT(DISTINCT carrier) FROM flights"),
    Query("one row by its key",
          "SELECT * FROM flights WHERE time_hour = '2013-06-01 15:00:00' AND origin = 'JFK' ORDER BY carrier, flight",
          ordered=True),
    Query("groups of one column", "SELECT carrier, COUNT(*), AVG(arr_delay) FROM flights GROUP BY carrier"),
    Query("groups of several columns",
          "SELECT month, origin, COUNT(*), SUM(distance), AVG(air_time) FROM flights GROUP BY month, origin "
          "ORDER BY month, origin", ordered=True),
    Query("a group of NULLs", "SELECT tailnum, COUNT(*) FROM flights WHERE dep_time IS NULL GROUP BY tailnum"),
    Query("HAVING, ORDER BY an aggregate, LIMIT",
          "SELECT dest, COUNT(*) AS n, MAX(distance) FROM flights GROUP BY dest HAVING COUNT(*) > 5000 "
          "ORDER BY n DESC, dest LIMIT 10", ordered=True),
    Query("NULLs come first", "SELECT DISTINCT dep_delay FROM flights ORDER BY dep_delay LIMIT 30", ordered=True),
    Query("NULLs come last, the other way round",
          "SELECT DISTINCT arr_delay FROM flights ORDER BY arr_delay DESC LIMIT 1000", ordered=True),
    Query("LIMIT with OFFSET",
          "SELECT time_hour, carrier, flight, origin FROM flights ORDER BY time_hour, carrier, flight, origin "
          "LIMIT 20 OFFSET 300000", ordered=True),
    Query("three-valued logic",
          "SELECT COUNT(*) FROM flights WHERE NOT (dep_delay > 0 AND arr_delay > 0)"),
    Query("IN and NOT IN with NULLs",
          "SELECT COUNT(*) FROM flights WHERE tailnum NOT IN ('N14228', 'N24211') AND dest IN ('IAH', 'ATL', 'ORD')"),
    Query("BETWEEN, arithmetic",
          "SELECT carrier, SUM(distance * 2 + minute), COUNT(*) FROM flights WHERE dep_delay BETWEEN -5 AND 15 "
          "GROUP BY carrier"),
    Query("CASE and COALESCE",
          "SELECT CASE WHEN dep_time IS NULL THEN 'cancelled' WHEN dep_delay > 60 THEN 'late' WHEN dep_delay > 0 THEN 'delayed' "
          "ELSE 'on time' END AS kind, COUNT(*), SUM(COALESCE(air_time, 0)) FROM flights "
          "GROUP BY CASE WHEN dep_time IS NULL THEN 'cancelled' WHEN dep_delay > 60 THEN 'late' WHEN dep_delay > 0 THEN 'delayed' "
          "ELSE 'on time' END"),
    Query("LIKE tells cases apart",
          "SELECT COUNT(*), SUM(name LIKE '%Intl%'), SUM(name LIKE '%intl%'), SUM(name LIKE '_a%') FROM airports"),
    Query("text functions",
          "SELECT UPPER(SUBSTR(name, 1, 4)) AS start, LENGTH(name), REPLACE(name, ' ', '_'), CONCAT(faa, '/', tz) FROM airports "
          "WHERE tz < -5",
          "SELECT UPPER(SUBSTR(name, 1, 4)) AS start, LENGTH(name), REPLACE(name, ' ', '_'), faa || '/' || tz FROM airports "
          "WHERE tz < -5"),
    Query("rounding and integer division",
          "SELECT origin, ROUND(AVG(temp), 2), ROUND(MIN(pressure), 1), MAX(year DIV 100), MAX(MOD(hour, 7)) FROM weather "
          "GROUP BY origin",
          "SELECT origin, ROUND(AVG(temp), 2), ROUND(MIN(pressure), 1), MAX(year / 100), MAX(hour % 7) FROM weather "
          "GROUP BY origin"),
    Query("parts of dates",
          "SELECT YEAR(time_hour), MONTH(time_hour), HOUR(time_hour), COUNT(*) FROM flights "
          "GROUP BY YEAR(time_hour), MONTH(time_hour), HOUR(time_hour)",
          "SELECT CAST(strftime('%Y', time_hour) AS INTEGER), CAST(strftime('%m', time_hour) AS INTEGER), "
          "CAST(strftime('%H', time_hour) AS INTEGER), COUNT(*) FROM flights GROUP BY 1, 2, 3"),
    Query("days, and a range of them",
          "SELECT DATE(time_hour) AS d, COUNT(*) FROM flights WHERE time_hour >= '2013-07-01' AND time_hour < '2013-08-01' "
          "GROUP BY DATE(time_hour) ORDER BY d", ordered=True),
    Query("weekdays",
          "SELECT DAYOFWEEK(time_hour), COUNT(*), AVG(dep_delay) FROM flights GROUP BY DAYOFWEEK(time_hour)",
          "SELECT CAST(strftime('%w', time_hour) AS INTEGER) + 1, COUNT(*), AVG(dep_delay) FROM flights GROUP BY 1"),
    Query("join by key",
          "SELECT a.name, COUNT(*), AVG(f.dep_delay) FROM flights f JOIN airlines a ON f.carrier = a.carrier GROUP BY a.name"),
    Query("left join, what has no partner",
          "SELECT f.carrier, COUNT(*) FROM flights f LEFT JOIN planes p ON f.tailnum = p.tailnum WHERE p.tailnum IS NULL "
          "GROUP BY f.carrier"),
    Query("two joins",
          "SELECT p.manufacturer, l.name, COUNT(*), SUM(p.seats) FROM flights f JOIN planes p ON f.tailnum = p.tailnum "
          "JOIN airlines l ON f.carrier = l.carrier WHERE p.year < 1990 GROUP BY p.manufacturer, l.name"),
    Query("the same table twice",
          "SELECT o.name, d.name, COUNT(*) AS n, AVG(f.air_time) FROM flights f JOIN airports o ON f.origin = o.faa "
          "JOIN airports d ON f.dest = d.faa GROUP BY o.name, d.name"),
    Query("join on several columns, one of them a time",
          "SELECT w.origin, COUNT(*), AVG(f.dep_delay), AVG(w.wind_speed), MAX(w.wind_gust) FROM flights f "
          "JOIN weather w ON f.origin = w.origin AND f.time_hour = w.time_hour WHERE w.precip > 0 GROUP BY w.origin"),
    Query("join on an inequality",
          "SELECT COUNT(*) FROM planes a JOIN planes b ON a.manufacturer = b.manufacturer AND a.year < b.year "
          "WHERE a.seats > 200"),
    Query("IN a query", "SELECT COUNT(*), SUM(distance) FROM flights WHERE tailnum IN (SELECT tailnum FROM planes WHERE seats > 300)"),
    Query("NOT EXISTS",
          "SELECT COUNT(*) FROM flights f WHERE NOT EXISTS (SELECT 1 FROM airports a WHERE a.faa = f.dest)"),
    Query("a correlated query",
          "SELECT p.tailnum, p.seats FROM planes p WHERE p.seats = (SELECT MAX(q.seats) FROM planes q "
          "WHERE q.manufacturer = p.manufacturer) AND p.engines > 2"),
    Query("a table that is a query",
          "SELECT t.month, MAX(t.n), MIN(t.n) FROM (SELECT month, day, COUNT(*) AS n FROM flights GROUP BY month, day) t "
          "GROUP BY t.month"),
    Query("WITH",
          "WITH late AS (SELECT carrier, flight, COUNT(*) AS n FROM flights WHERE arr_delay > 120 GROUP BY carrier, flight) "
          "SELECT l.carrier, l.flight, l.n FROM late l WHERE l.n >= 15"),
    Query("UNION and UNION ALL",
          "SELECT dest FROM flights WHERE carrier = 'HA' UNION SELECT origin FROM flights WHERE carrier = 'OO' "
          "UNION ALL SELECT faa FROM airports WHERE alt > 7000"),
    Query("windows",
          "SELECT month, carrier, n, RANK() OVER (PARTITION BY month ORDER BY n DESC) AS place, SUM(n) OVER (PARTITION BY month) "
          "FROM (SELECT month, carrier, COUNT(*) AS n FROM flights GROUP BY month, carrier) t"),
    Query("everything together",
          "SELECT a.name, f.origin, COUNT(*) AS n, COUNT(DISTINCT f.tailnum) AS planes, AVG(f.arr_delay) AS late, "
          "SUM(CASE WHEN f.dep_time IS NULL THEN 1 ELSE 0 END) AS cancelled FROM flights f "
          "JOIN airlines a ON a.carrier = f.carrier LEFT JOIN planes p ON p.tailnum = f.tailnum "
          "WHERE f.month IN (6, 7, 8) AND (p.year IS NULL OR p.year >= 2000) GROUP BY a.name, f.origin HAVING COUNT(*) > 100 "
          "ORDER BY n DESC, a.name, f.origin", ordered=True),
]
