"""What the Python clients have in common: the rows of the table `types` as Python values, and small helpers."""

import datetime
import decimal
import faulthandler
import json
import os
import sys

# A client that waits for ever says where, and fails.
faulthandler.dump_traceback_later(300, exit=True)

PORT, CA, ROWS = int(sys.argv[1]), sys.argv[2], sys.argv[3]

# Positions of columns that need more than JSON can say.
BIG, DECIMAL, DATE, MOMENTS, TIME = (7, 8), 9, 18, (19, 20, 21), 22


def typed(row):
    """A row of types.json as a Python client should show it."""
    row = [bytes.fromhex(cell["hex"]) if isinstance(cell, dict) else cell for cell in row]
    if row[0] is None:
        return row
    for i in BIG:
        row[i] = int(row[i])
    row[DECIMAL] = decimal.Decimal(row[DECIMAL])
    row[DATE] = datetime.date.fromisoformat(row[DATE])
    for i in MOMENTS:
        row[i] = datetime.datetime.fromisoformat(row[i])
    hours, minutes, seconds = row[TIME].lstrip("-").split(":")
    span = datetime.timedelta(hours=int(hours), minutes=int(minutes), seconds=float(seconds))
    row[TIME] = -span if row[TIME].startswith("-") else span
    return row


with open(os.path.join(os.path.dirname(__file__), "types.json"), encoding="utf-8") as file:
    TYPES = [typed(row) for row in json.load(file)]


def equal(found, expected, what=""):
    assert found == expected, f"{what}: found {found!r}, expected {expected!r}"


def check_types(rows, what):
    equal(len(rows), len(TYPES), what)
    for n, (row, expected) in enumerate(zip(rows, TYPES)):
        equal(len(row), len(expected), what)
        for i, (cell, wanted) in enumerate(zip(row, expected)):
            if isinstance(cell, bytearray):
                cell = bytes(cell)
            equal(cell, wanted, f"{what}, row {n}, column {i}")


def refused(code, call, *arguments, **named):
    """The error of a call that must fail with this code."""
    try:
        call(*arguments, **named)
    except Exception as error:
        number = getattr(error, "errno", None) or error.args[0]
        equal(number, code, f"error {error}")
        return error
    raise AssertionError(f"{arguments} was not refused with {code}")
