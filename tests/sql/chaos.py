"""Processes are killed at any moment under load; is every acknowledged write where it must be?

Two regions of real processes, one follows the other, and clients insert rows without pause. Round after round something
is killed with SIGKILL and started again: one leaf, or every process of the region that is written to. Some of those
regions are lost for good as far as their clients know: the other one is promoted, the clients turn to it, and the lost
one comes back and follows. What must hold:

- inside a region nothing that was acknowledged is lost;
- between regions only what was never shipped is missing, and it is set aside where it was: listed by SHOW DIVERGENCE RECORDS;
- nothing is there that nobody wrote, nothing twice, and both regions are equal at the end.
"""

import argparse
import os
import pathlib
import random
import re
import signal
import sys
import tempfile
import threading
import time

import pymysql

from playground import Failed, PASSWORD, Playground, Region, expect

WRITERS = 4
KINDS = ["leaf", "leaf", "region", "loss"]


class Load:
    """Clients that insert numbered rows, and what they were told."""

    def __init__(self, region):
        self.region, self.stopped, self.lock = region, False, threading.Lock()
        self.next = 0
        # By number: `True` acknowledged, `None` sent and not known.
        self.told = {}
        self.threads = [threading.Thread(target=self.write, daemon=True) for _ in range(WRITERS)]
        for thread in self.threads:
            thread.start()

    def write(self):
        connection, region = None, None
        while not self.stopped:
            if connection is None or region is not self.region:
                region = self.region
                try:
                    connection = pymysql.connect(host="127.0.0.1", port=region.port, user="root", autocommit=True, read_timeout=60)
                except pymysql.Error:
                    time.sleep(0.05)
                    continue
            with self.lock:
                number, self.next = self.next, self.next + 1
                self.told[number] = None
            try:
                with connection.cursor() as cursor:
                    # Two rows in two partitions, as a rule: both are there, or none.
                    cursor.execute(f"INSERT INTO app.t VALUES ({2 * number}, 'w{number}x'), ({2 * number + 1}, 'w{number}x')")
                self.told[number] = True
            except pymysql.Error as error:
                code = error.args[0] if error.args else 0
                if code in (0, 2006, 2013, 1180):
                    connection = None
                elif code in (1290, 9005, 1205, 1213, 1053, 9006):
                    # Certainly not done.
                    del self.told[number]
                    time.sleep(0.02)
                else:
                    del self.told[number]
                    print(f"    a client is told: {error}")

    def acknowledged(self):
        # Taken at once: the clients go on.
        return {number for number, told in self.told.copy().items() if told}

    def stop(self):
        self.stopped = True
        for thread in self.threads:
            thread.join()


def present(region):
    """Numbers of the writes that are there; each must be there whole."""
    rows = region.sql("SELECT id, v FROM app.t")
    found = {}
    for id_, text in rows:
        number = int(text[1:-1])
        expect(int(id_) // 2 == number, f"{region.name}: row {id_} holds {text}")
        found.setdefault(number, []).append(int(id_))
    for number, ids in found.items():
        expect(sorted(ids) == [2 * number, 2 * number + 1], f"{region.name}: of write {number} there are rows {ids}")
    return set(found)


def wait_equal(primary, sink):
    marker = time.time_ns()
    primary.sql(f"REPLACE INTO app.marker VALUES (1, {marker})")
    sink.wait("it has caught up", lambda: sink.try_sql("SELECT v FROM app.marker").stdout.strip() == str(marker))


def under_load(load, limit=60):
    """Returns when clients are acknowledged again."""
    had, begun = len(load.acknowledged()), time.monotonic()
    while len(load.acknowledged()) <= had + 5:
        expect(time.monotonic() - begun < limit, f"no write is acknowledged after {limit} s")
        time.sleep(0.05)


class Chaos:
    def __init__(self, playground, seed):
        self.random = random.Random(seed)
        self.playground = playground
        self.primary, self.sink = Region(playground, "east", 0), Region(playground, "west", 1)
        self.aside, self.gone = set(), set()
        for region in (self.primary, self.sink):
            region.sql(f"CREATE USER repl IDENTIFIED BY '{PASSWORD}'; GRANT REPLICATION ON *.* TO repl")
        self.primary.sql("CREATE DATABASE app PARTITIONS 4; CREATE TABLE app.t (id BIGINT PRIMARY KEY, v VARCHAR(40)); "
                         "CREATE TABLE app.marker (id INT PRIMARY KEY, v BIGINT)")
        self.follow(self.sink, self.primary, "")
        self.load = Load(self.primary)

    def follow(self, sink, source, force):
        return sink.show(f"REPLICATE DATABASE app {force}FROM repl:'{PASSWORD}'@127.0.0.1:{source.port}/app")

    def play(self, number):
        under_load(self.load)
        time.sleep(self.random.uniform(0.0, 1.5))
        kind = self.random.choice(KINDS)
        if kind == "leaf":
            nodes = [node for region in (self.primary, self.sink) for node in region.nodes() if "leaf" in node["name"]]
            victim = self.random.choice(nodes)
            os.kill(victim["pid"], signal.SIGKILL)
            what = victim["name"]
            time.sleep(self.random.choice([0.0, 0.3, 2.5]))
            self.revive(victim["name"])
        elif kind == "region":
            what = self.primary.name
            self.primary.kill()
            time.sleep(self.random.choice([0.0, 1.0]))
            self.primary.start()
        else:
            what = self.lose()
        under_load(self.load)
        self.check()
        print(f"round {number}: {kind} {what}: {len(self.load.acknowledged())} acknowledged, {len(self.aside)} set aside so far")

    def revive(self, name):
        """Once the supervisor has seen that the process is gone."""
        for _ in range(100):
            nodes = self.primary.nodes() + self.sink.nodes()
            if any(node["name"] == name and node["pid"] is None for node in nodes):
                break
            time.sleep(0.05)
        self.playground.run("start-node", name)

    def lose(self):
        lost, heir = self.primary, self.sink
        lost.kill()
        heir.sql("STOP REPLICATING app")
        # What the lost region had acknowledged by now is known to be shipped, or will be found set aside.
        before = self.load.acknowledged()
        self.load.region = heir
        under_load(self.load)
        missing = before - self.gone - present(heir)
        lost.start()
        answer = self.follow(lost, heir, "WITH FORCE DIFFERENTIAL ")
        listed = set()
        if answer["divergence"] not in ("NULL", ""):
            # A partition that had not heard of the promotion when it parted has a name of its own for it.
            text = [row for id_ in answer["divergence"].split(",") for row in lost.sql(f"SHOW DIVERGENCE RECORDS '{id_}'")]
            listed = {int(found) for row in text for field in row for found in re.findall(r"w(\d+)x", field)}
        expect(missing <= listed, f"acknowledged, never shipped and not set aside: {sorted(missing - listed)[:9]}")
        self.aside |= listed
        self.gone |= missing
        self.primary, self.sink = heir, lost
        return f"{lost.name}, {len(missing)} acknowledged writes are missing and {len(listed)} are set aside"

    def check(self):
        acknowledged = self.load.acknowledged()
        lost = acknowledged - self.gone - present(self.primary)
        expect(not lost, f"acknowledged and lost: {sorted(lost)[:9]}")

    def end(self):
        under_load(self.load)
        self.load.stop()
        self.check()
        wait_equal(self.primary, self.sink)
        ours, theirs = present(self.primary), present(self.sink)
        expect(ours == theirs, f"the regions differ in {sorted(ours ^ theirs)[:9]}")
        expect(ours <= set(self.load.told) | self.aside, "there is something that nobody wrote")
        return len(self.load.acknowledged())


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", required=True, help="the perennial binary")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--port-base", type=int, default=16100)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="perennial-chaos-") as name:
        playground = Playground(arguments.binary, pathlib.Path(name), arguments.port_base)
        try:
            chaos = Chaos(playground, arguments.seed)
            for number in range(1, arguments.rounds + 1):
                chaos.play(number)
            acknowledged = chaos.end()
        except Failed as failed:
            sys.exit(f"chaos: {failed}")
        finally:
            playground.end()
    print(f"chaos: {arguments.rounds} rounds, {acknowledged} acknowledged, {len(chaos.gone)} never shipped and set aside, 0 lost")


if __name__ == "__main__":
    main()
