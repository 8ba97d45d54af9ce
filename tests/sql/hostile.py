"""Everything that a bad client, a bad network or a bad disk can do at once, against a running region.

Garbage and half packets on every port, clients that stop reading, statements that do not exist, rows that are too large, a
wrong password, a source that does not answer, a disk that fills up. Each must end in a clear error; every process must
live on, answer the next client, and keep its memory within a bound.
"""

import argparse
import os
import pathlib
import random
import socket
import subprocess
import sys
import tempfile
import time

import pymysql

from playground import Failed, Playground, Region, expect

# Of one process, above what it had before: statements of some megabytes, and a few pieces of rows for each client.
MEMORY_MAX = 800 << 20
DISK = 600 << 20


def memory(pid):
    """Resident bytes."""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) << 10
    return 0


class Hostile:
    def __init__(self, playground, seed):
        self.random, self.playground = random.Random(seed), playground
        self.east, self.west = Region(playground, "east", 0), Region(playground, "west", 1)
        self.nodes = self.east.nodes() + self.west.nodes()
        self.pids = {node["name"]: node["pid"] for node in self.nodes}
        self.before = {name: memory(pid) for name, pid in self.pids.items()}
        self.east.sql("CREATE DATABASE app PARTITIONS 4; CREATE TABLE app.t (id INT PRIMARY KEY, v LONGTEXT)")
        self.east.sql("INSERT INTO app.t VALUES (1, 'here')")

    def alive(self, after):
        """All processes are those of the beginning, within their memory, and answer."""
        for node in self.east.nodes() + self.west.nodes():
            expect(node["pid"] == self.pids[node["name"]], f"{node['name']} has ended after {after}")
            grown = memory(node["pid"]) - self.before[node["name"]]
            expect(grown < MEMORY_MAX, f"{node['name']} has grown by {grown >> 20} MiB after {after}")
        expect(self.east.sql("SELECT v FROM app.t WHERE id = 1") == [["here"]], f"no answer after {after}")
        most = max(memory(pid) - self.before[name] for name, pid in self.pids.items())
        print(f"{after}: all live and answer, no process grew by more than {max(most, 0) >> 20} MiB")

    def refused(self, text, wanted, region=None):
        done = (region or self.east).try_sql(text)
        expect(done.returncode != 0 and any(code in done.stderr for code in wanted), f"{text[:80]}: {done.stderr} {done.stdout[:80]}")
        # The client repeats the statement first.
        print(f"    {text[:70]}: {done.stderr[done.stderr.find('ERROR'):].strip()[:150]}")

    def ports(self):
        for node in self.nodes:
            for kind in ("sql", "http", "rpc", "addr"):
                if node.get(kind):
                    host, port = node[kind].rsplit(":", 1)
                    yield host, int(port)

    def garbage(self):
        for host, port in self.ports():
            for size in (1, 3, 4, 17, 1000, 100_000):
                for _ in range(4):
                    bytes_ = self.random.choice([self.random.randbytes(size), b"\xff" * size, b"\0" * size, b"GET / HTTP/1.1\r\n" * (size // 16 + 1)])
                    with socket.create_connection((host, port), timeout=5) as peer:
                        try:
                            peer.sendall(bytes_)
                        except OSError:
                            pass
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
                for size in (1, 20, 1200, 1400):
                    peer.sendto(self.random.randbytes(size), (host, port))
        self.alive("garbage on every port")
        # Half packets whose senders stay.
        open_ = [socket.create_connection(place, timeout=5) for place in self.ports() for _ in range(50)]
        for peer in open_:
            try:
                peer.sendall(b"\x40\x00\x00\x01\x8d")
            except OSError:
                pass
        self.alive(f"{len(open_)} half packets whose senders wait")
        for peer in open_:
            peer.close()

    def deaf(self):
        """Clients that ask for much and read nothing."""
        rows = ",".join(f"({number}, '{'x' * 20_000}')" for number in range(100, 400))
        with pymysql.connect(host="127.0.0.1", port=self.east.port, user="root", autocommit=True) as fill, fill.cursor() as cursor:
            for batch in range(10):
                cursor.execute(f"INSERT INTO app.t VALUES {rows.replace('(', '(' + str(batch + 1))}")
        deaf = []
        for _ in range(30):
            client = pymysql.connect(host="127.0.0.1", port=self.east.port, user="root")
            client._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client._execute_command(3, "SELECT * FROM app.t AS a")
            deaf.append(client)
        time.sleep(5)
        self.alive("30 clients that read nothing of 60 MB each")
        for client in deaf:
            client._sock.close()

    def statements(self):
        self.refused("FROBNICATE THE TABLES", ["1064"])
        self.refused("SELECT * FROM app.t WHERE" + " (" * 5000, ["1064", "1436"])
        self.refused("SELECT * FROM app.nothing", ["1146"])
        self.refused("CREATE DATABASE large PARTITIONS 4000000000", ["must be 1 to 4096"])
        self.refused("SELECT " + "1+" * 50_000 + "1", ["1064", "1436", "1235"])
        with pymysql.connect(host="127.0.0.1", port=self.east.port, user="root", autocommit=True) as client, client.cursor() as cursor:
            for size in (20 << 20, 70 << 20):
                try:
                    cursor.execute(f"INSERT INTO app.t VALUES (2, '{'y' * size}')")
                    expect(False, f"a row of {size >> 20} MiB is taken")
                except pymysql.Error as error:
                    print(f"    a row of {size >> 20} MiB: {str(error)[:150]}")
                    # Too large for a row; too large for a packet, which ends the connection at once.
                    expect(error.args[0] in (1118, 1153, 2006, 2013), f"a row of {size >> 20} MiB: {error}")
                    client.connect()
        self.alive("bad statements")

    def strangers(self):
        self.east.sql("CREATE USER known IDENTIFIED BY 'right'")
        for user, password in (("known", "wrong"), ("unknown", "x"), ("known", "")):
            try:
                pymysql.connect(host="127.0.0.1", port=self.east.port, user=user, password=password)
                expect(False, f"{user} is let in")
            except pymysql.err.OperationalError as error:
                expect(error.args[0] == 1045, str(error))
                print(f"    {user} with a wrong password: {error}")
        # A port that nobody listens at, one that accepts and says nothing, one that has another password.
        silent = socket.create_server(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        begun = time.monotonic()
        self.refused(f"REPLICATE DATABASE app FROM known:'right'@127.0.0.1:{port}/app", ["ERROR"], self.west)
        print(f"    after {time.monotonic() - begun:.1f} s")
        silent.close()
        self.refused(f"REPLICATE DATABASE app FROM known:'right'@127.0.0.1:{port}/app", ["ERROR"], self.west)
        self.refused(f"REPLICATE DATABASE app FROM known:'wrong'@127.0.0.1:{self.east.port}/app", ["ERROR"], self.west)
        expect(self.west.sql("SHOW DATABASES LIKE 'app'") == [], "a database is left of what failed")
        self.alive("strangers")

    def full(self, mount):
        """The disk fills up under writes, and gets room again."""
        hog = mount / "hog"
        free = os.statvfs(mount)
        size = max(free.f_bavail * free.f_frsize - (8 << 20), 0)
        subprocess.run(["fallocate", "-l", str(size), hog], check=True)
        told = ""
        for number in range(200):
            done = self.east.try_sql(f"REPLACE INTO app.t VALUES ({5000 + number}, REPEAT('z', 500000))")
            if done.returncode != 0:
                told = done.stderr.strip()
                break
            time.sleep(0.05)
        expect(told, "a full disk takes writes")
        print(f"    a full disk: {told[:200]}")
        self.alive("a full disk")
        hog.unlink()
        self.east.wait("writes go on", lambda: self.east.try_sql("REPLACE INTO app.t VALUES (3, 'room')").returncode == 0, 60)
        self.alive("room again")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", required=True, help="the perennial binary")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--port-base", type=int, default=16500)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="perennial-hostile-") as name:
        folder = pathlib.Path(name)
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={4 * DISK}", "tmpfs", folder], check=False).returncode == 0
        playground = Playground(arguments.binary, folder, arguments.port_base)
        try:
            hostile = Hostile(playground, arguments.seed)
            hostile.garbage()
            hostile.deaf()
            hostile.statements()
            hostile.strangers()
            if mounted:
                hostile.full(folder)
            else:
                print("a full disk: left out, for nothing can be mounted here")
        except Failed as failed:
            sys.exit(f"hostile: {failed}")
        finally:
            playground.end()
            if mounted:
                subprocess.run(["umount", "--lazy", folder], check=False)
    print("hostile: every process lived, and every error was told")


if __name__ == "__main__":
    main()
