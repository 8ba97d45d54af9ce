"""A playground as an operator drives it: real processes, the `mariadb` client, signals."""

import json
import os
import signal
import subprocess
import time

# Of the user that the other region follows with.
PASSWORD = "replication"


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


class Playground:
    """Regions of real processes, each an aggregator and two leaves."""

    def __init__(self, binary, folder, base, regions="east,west"):
        self.binary, self.dir, self.base = binary, folder / "pg", base
        log = open(folder / "playground.log", "wb")
        command = [binary, "playground", "--dir", self.dir, "--regions", regions, "--port-base", str(base)]
        self.supervisor = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0)
        for _ in range(1200):
            expect(self.supervisor.poll() is None, f"the playground has ended:\n{(folder / 'playground.log').read_text()}")
            try:
                if json.loads((self.dir / "playground.json").read_text())["ready"]:
                    return
            except (OSError, ValueError, KeyError):
                pass
            time.sleep(0.1)
        self.end()
        raise Failed("the playground does not become ready")

    def run(self, action, name):
        done = subprocess.run([self.binary, "playground", action, name, "--dir", self.dir], capture_output=True, text=True, check=False)
        expect(done.returncode == 0, f"{action} {name}: {done.stderr}{done.stdout}")

    def end(self):
        self.supervisor.send_signal(signal.SIGTERM)
        self.supervisor.wait()
