"""The Python drivers against a running region: every type there and back, bytes, prepared statements, transactions."""

import datetime
import decimal
import sys

NAME, PORT = sys.argv[1], int(sys.argv[2])


def connect(**options):
    # SingleStore's driver switches it on by default, the others off.
    options["autocommit"] = False
    if NAME == "pymysql":
        import pymysql as driver
    elif NAME == "connector":
        import mysql.connector as driver
        options["ssl_disabled"] = True
    else:
        import singlestoredb as driver
    return driver, driver.connect(host="127.0.0.1", port=PORT, user="root", password="", **options)


def equal(found, wanted, what):
    assert found == wanted, f"{what}: {found!r}, not {wanted!r}"


def clean(cell):
    if isinstance(cell, bytearray):
        return bytes(cell)
    return cell


ROW = (
    1,
    -5,
    2**64 - 1,
    decimal.Decimal("-123456789.12500"),
    1.5,
    "Grüße 😀 it's \\ \"quoted\"\n",
    "x" * 60_000,
    bytes(range(256)),
    b"\x00\xff\xfe'\\",
    datetime.date(2026, 11, 24),
    datetime.datetime(2026, 11, 24, 10, 11, 12, 345678),
    datetime.timedelta(hours=30, microseconds=5),
    1,
    None,
)
COLUMNS = "id INT PRIMARY KEY, a SMALLINT, b BIGINT UNSIGNED, c DECIMAL(20,5), d DOUBLE, e VARCHAR(100), f TEXT, g BLOB, \
h VARBINARY(20), i DATE, j DATETIME(6), k TIME(6), l BOOL, m VARCHAR(5)"


def check_row(cursor, what):
    cursor.execute(f"SELECT * FROM {NAME}.t WHERE id = 1")
    found = [clean(cell) for cell in cursor.fetchall()[0]]
    for at, (cell, wanted) in enumerate(zip(found, ROW)):
        equal(cell, wanted, f"{what}, column {at}")


def check_values(connection):
    cursor = connection.cursor()
    cursor.execute(f"CREATE DATABASE {NAME} PARTITIONS 3")
    cursor.execute(f"CREATE TABLE {NAME}.t ({COLUMNS})")
    insert = f"INSERT INTO {NAME}.t VALUES ({', '.join(['%s'] * len(ROW))})"
    cursor.execute(insert, ROW)
    equal(cursor.rowcount, 1, "rows inserted")
    connection.commit()
    check_row(cursor, "as text")
    cursor.executemany(insert, [(number, *ROW[1:]) for number in range(2, 50)])
    connection.commit()
    cursor.execute(f"SELECT COUNT(*), SUM(c), MAX(j) FROM {NAME}.t WHERE g = %s AND e = %s", (ROW[7], ROW[5]))
    equal(list(cursor.fetchall()[0]), [49, 49 * ROW[3], ROW[10]], "sums")
    if NAME == "connector":
        prepared = connection.cursor(prepared=True)
        prepared.execute(f"DELETE FROM {NAME}.t WHERE id = ?", (1,))
        prepared.execute(insert.replace("%s", "?"), ROW)
        connection.commit()
        check_row(prepared, "prepared")


def check_transactions(driver, connection):
    cursor = connection.cursor()
    cursor.execute(f"DELETE FROM {NAME}.t WHERE id > 10")
    equal(cursor.rowcount, 39, "rows deleted")
    cursor.execute(f"SELECT COUNT(*) FROM {NAME}.t")
    equal(cursor.fetchall()[0][0], 10, "its own deletions are seen")
    connection.rollback()
    cursor.execute(f"SELECT COUNT(*) FROM {NAME}.t")
    equal(cursor.fetchall()[0][0], 49, "without autocommit a rollback undoes it")
    connection.rollback()
    for number, (text, values) in {
        1062: (f"INSERT INTO {NAME}.t (id) VALUES (%s)", (1,)),
        1146: (f"SELECT * FROM {NAME}.nothing WHERE 1 = %s", (1,)),
        1064: ("SELEKT %s", (1,)),
        1406: (f"UPDATE {NAME}.t SET m = %s WHERE id = 1", ("too long",)),
    }.items():
        try:
            cursor.execute(text, values)
        except driver.Error as error:
            equal(getattr(error, "errno", None) or error.args[0], number, text)
        else:
            raise AssertionError(f"{text} is taken")
    connection.rollback()


used, session = connect()
check_values(session)
check_transactions(used, session)
session.close()
print("ok")
