"""PyMySQL: text protocol, logins, TLS, several results, LOAD DATA LOCAL, packets over 16 MiB."""

import pymysql
from pymysql.constants import CLIENT

from checks import CA, PORT, ROWS, check_types, equal, refused


def connect(user="root", password="", **options):
    return pymysql.connect(host="127.0.0.1", port=PORT, user=user, password=password, charset="utf8mb4", **options)


def value(connection, text):
    with connection.cursor() as cursor:
        cursor.execute(text)
        return cursor.fetchone()[0]


for user in ("native", "sha2"):
    for tls in ({"ssl_disabled": True}, {"ssl": {"ca": CA}}):
        with connect(user, "secret", **tls) as connection:
            equal(value(connection, "SELECT USER"), f"{user}@localhost")
            equal(value(connection, "SELECT TLS"), "true" if "ssl" in tls else "false")
    refused(1045, connect, user, "wrong")
    refused(1045, connect, user, "")
refused(1045, connect, "nobody", "x")
refused(1049, connect, database="nowhere")
with connect("salted", "secret", ssl={"ca": CA}) as connection:
    equal(value(connection, "SELECT USER"), "salted@localhost")
with connect("salted", "secret", ssl_disabled=True) as connection:
    equal(value(connection, "SELECT TLS"), "false")

connection = connect(database="toy", local_infile=True, client_flag=CLIENT.MULTI_STATEMENTS | CLIENT.FOUND_ROWS)
equal(value(connection, "SELECT DATABASE"), "toy")
equal(value(connection, "SELECT FOUND_ROWS"), "true")
equal(value(connection, "SELECT CLIENT"), "pymysql")
equal(connection.get_autocommit(), False)
connection.begin()
assert connection.server_status & 1, "in a transaction"
connection.commit()
assert not connection.server_status & 1, "not in a transaction"
connection.autocommit(True)
equal(connection.get_autocommit(), True)

with connection.cursor() as cursor:
    cursor.execute("SELECT * FROM types")
    equal([column[0] for column in cursor.description][:2], ["c_bool", "c_tiny"])
    check_types(cursor.fetchall(), "text")

    equal(cursor.execute("INSERT INTO t"), 3)
    equal((cursor.lastrowid, cursor.rowcount, cursor.warning_count), (7, 3, 1))

    equal(cursor.execute("INSERT INTO t VALUES (%s, %s)", (1, b"\x00\xff\xc3'\\")), 3)

    cursor.execute("SELECT ONE; INSERT INTO t; SELECT * FROM numbers 2; SELECT TWO")
    equal(cursor.fetchall(), (("value of ONE",),))
    equal(cursor.nextset(), True)
    equal(cursor.rowcount, 3)
    equal(cursor.nextset(), True)
    equal([row[0] for row in cursor.fetchall()], [0, 1])
    equal(cursor.nextset(), True)
    equal(cursor.fetchall(), (("value of TWO",),))
    equal(cursor.nextset(), None)

    cursor.execute("SELECT ONE; FAIL 1146; SELECT TWO")
    refused(1146, cursor.nextset)
    refused(1064, cursor.execute, "NONSENSE")
    refused(1213, cursor.execute, "HALF 1213")
    refused(1300, cursor.execute, b"SELECT \xff")
    refused(1053, cursor.execute, "FAIL 1053")
    equal(value(connection, "SELECT STILL"), "value of STILL")

    equal(cursor.execute(f"LOAD DATA LOCAL INFILE '{ROWS}' INTO TABLE t"), 200_000)
    refused(1366, cursor.execute, f"LOAD DATA LOCAL INFILE '{ROWS}' INTO TABLE t STOP 2")
    equal(value(connection, "SELECT STILL"), "value of STILL")

    for size in (0xFFFFFF - 32, 0xFFFFFF, 0x1000010, 0x2000000):
        size -= size % 16
        cursor.execute(f"SELECT TEXT {size}")
        text = cursor.fetchone()[0]
        equal(len(text), size)
        equal(text[-16:], "0123456789abcdef")
    for size in (0xFFFFFF - 2, 0xFFFFFF - 1, 0xFFFFFF, 2 * 0xFFFFFF):
        cursor.execute("LENGTH ".ljust(size, "x"))
        equal(cursor.fetchone()[0], size)
    # Larger than max_allowed_packet: refused under the right sequence number, and the connection closed.
    refused(1153, cursor.execute, "LENGTH ".ljust(65 << 20, "x"))

with connect() as plain:
    with plain.cursor() as cursor:
        refused(1064, cursor.execute, "SELECT 1; SELECT 2")
    plain.ping()
    plain.select_db("toy")
    refused(1049, plain.select_db, "nowhere")
    with plain.cursor(pymysql.cursors.SSCursor) as cursor:
        cursor.execute("SELECT * FROM numbers 50000")
        equal(sum(1 for _ in cursor), 50_000)
print("ok")
