"""mysql-connector-python: text and binary protocol, COM_RESET_CONNECTION, COM_CHANGE_USER, statistics."""

import datetime
import decimal

import mysql.connector
from mysql.connector.constants import ClientFlag

from checks import CA, PORT, ROWS, check_types, equal, refused


def connect(user="root", password="", **options):
    return mysql.connector.connect(host="127.0.0.1", port=PORT, user=user, password=password, **options)


def value(connection, text):
    with connection.cursor() as cursor:
        cursor.execute(text)
        return cursor.fetchall()[0][0]


def check_login():
    for user in ("native", "sha2"):
        for tls in ({"ssl_disabled": True}, {"ssl_ca": CA, "ssl_verify_cert": True}):
            with connect(user, "secret", **tls) as connection:
                equal(value(connection, "SELECT USER"), f"{user}@localhost")
                equal(value(connection, "SELECT TLS"), "false" if "ssl_disabled" in tls else "true")
        refused(1045, connect, user, "wrong")
    refused(1049, connect, database="nowhere")


def check_statements(connection):
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM types")
        check_types(cursor.fetchall(), "text")
        cursor.execute("INSERT INTO t")
        equal((cursor.rowcount, cursor.lastrowid), (3, 7))
        # The driver writes them into the statement as they are.
        cursor.execute("INSERT INTO t VALUES (%s, %s)", (1, b"\x00\xff\xc3'\\"))
        equal(cursor.rowcount, 3)
        refused(1213, cursor.execute, "FAIL 1213")
        cursor.execute(f"LOAD DATA LOCAL INFILE '{ROWS}' INTO TABLE t")
        equal(cursor.rowcount, 200_000)
    connection.start_transaction()
    equal(connection.in_transaction, True)
    connection.rollback()
    equal(connection.in_transaction, False)


def span(found):
    """The driver takes the sign of a TIME for that of its days alone; this undoes it."""
    if found is not None and found.days < 0:
        return -datetime.timedelta(days=-found.days, seconds=found.seconds, microseconds=found.microseconds)
    return found


def check_prepared(connection):
    with connection.cursor(prepared=True) as cursor:
        cursor.execute("SELECT * FROM types")
        rows = [list(row) for row in cursor.fetchall()]
        for row in rows:
            # JSON has the collation of bytes, as in MySQL; this driver's prepared cursor goes by that alone.
            row[17] = row[17].decode() if isinstance(row[17], (bytes, bytearray)) else row[17]
            row[22] = span(row[22])
        check_types(rows, "binary")
        parameters = (
            None,
            -5,
            2**63 - 1,
            1.5,
            "Grüße 😀",
            b"\x00\xff",
            decimal.Decimal("-12.50"),
            datetime.date(2026, 11, 24),
            datetime.datetime(2026, 11, 24, 10, 11, 12, 345678),
            datetime.timedelta(hours=30, microseconds=5),
            "x" * 70_000,
        )
        statement = "ECHO" + " ?" * len(parameters)
        for _ in range(2):
            cursor.execute(statement, parameters)
            row = [bytes(cell) if isinstance(cell, bytearray) else cell for cell in cursor.fetchall()[0]]
            # The driver sends a decimal as text without a type of its own.
            equal(decimal.Decimal(row[6]), parameters[6])
            equal(row[:6] + row[7:], list(parameters[:6] + parameters[7:]), "echo")
        cursor.execute("INSERT INTO t")
        equal((cursor.rowcount, cursor.lastrowid), (3, 7))
        refused(1064, cursor.execute, "BAD ?", (1,))
        refused(1213, cursor.execute, "FAIL 1213")
        refused(1295, cursor.execute, f"LOAD DATA LOCAL INFILE '{ROWS}' INTO TABLE t")
    equal(value(connection, "SELECT STILL"), "value of STILL")


def check_session(connection):
    connection.ping()
    connection.autocommit = True
    before = value(connection, "SELECT CONNECTION")
    connection.cmd_reset_connection()
    equal(value(connection, "SELECT CONNECTION"), before)
    connection.cmd_change_user("sha2", "secret", "toy")
    equal(value(connection, "SELECT USER"), "sha2@localhost")
    equal(value(connection, "SELECT DATABASE"), "toy")
    equal(value(connection, "SELECT CONNECTION"), before)
    connection.cmd_init_db("toy")
    refused(1049, connection.cmd_init_db, "nowhere")
    refused(1045, connection.cmd_change_user, "sha2", "wrong")


check_login()
session = connect(database="toy", allow_local_infile=True, client_flags=[ClientFlag.FOUND_ROWS])
equal(value(session, "SELECT FOUND_ROWS"), "true")
check_statements(session)
check_prepared(session)
assert int(session.cmd_statistics()["Threads"]) >= 1
check_session(session)
print("ok")
