"""SingleStore's Python client: its pure reader and, where it is built, its accelerated one."""

import datetime

import singlestoredb

from checks import CA, PORT, ROWS, check_types, equal, refused


def connect(**options):
    named = {"host": "127.0.0.1", "port": PORT, "user": "root", "password": "", "database": "toy", **options}
    return singlestoredb.connect(**named)


refused(1045, connect, user="native", password="wrong")
with connect(user="native", password="secret", ssl_ca=CA) as connection:
    with connection.cursor() as cursor:
        cursor.execute("SELECT TLS")
        equal(list(cursor.fetchall()), [("true",)])

for pure in (True, False):
    with connect(pure_python=pure, local_infile=True, multi_statements=True) as connection:
        with connection.cursor() as cursor:
            cursor.execute("SELECT * FROM types")
            rows = [list(row) for row in cursor.fetchall()]
            # This client reads JSON into Python's values.
            for row, parsed in zip(rows, ({"a": 1}, [], None)):
                equal(row[17], parsed)
                row[17] = None if parsed is None else ('{"a": 1}' if parsed else "[]")
                # Its accelerated reader knows no or six digits after the seconds, and leaves three of them as text.
                if isinstance(row[21], str):
                    row[21] = datetime.datetime.fromisoformat(row[21])
            check_types(rows, f"text, pure={pure}")
            cursor.execute("SELECT * FROM numbers 20000")
            equal(len(cursor.fetchall()), 20_000)
            cursor.execute("INSERT INTO t")
            equal((cursor.rowcount, cursor.lastrowid), (3, 7))
            cursor.execute("SELECT ONE; SELECT TWO")
            equal(list(cursor.fetchall()), [("value of ONE",)])
            equal(cursor.nextset(), True)
            equal(list(cursor.fetchall()), [("value of TWO",)])
            refused(1146, cursor.execute, "FAIL 1146")
            cursor.execute(f"LOAD DATA LOCAL INFILE '{ROWS}' INTO TABLE t")
            equal(cursor.rowcount, 200_000)
print("ok")
