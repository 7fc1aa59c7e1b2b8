# SPDX-License-Identifier: BSD-3-Clause
"""Databases that a guest works on, and which a copy of its disks must have whole. All is sqlite3, which
syncs what it writes. A transaction's number says all that it does, so the number of the last one says
what a database must hold.

A Ledger is two databases, in folders on different disks. Each transaction takes from accounts of the
one and gives to accounts of the other, in place; a rollback journal in each folder, and one above both,
make it happen in both or in none. So two copies of one instant hold the same transactions.

A Log is a database with a write-ahead log: a transaction is appended there, and its pages are put in
place some time later.

    database.make()                                     # with transaction 0
    guest: `NAME | sqlite3 -bail PATH`                  # NAME: the program script(), path: `path`
    database.last()                                     # checked; the number of the last transaction

Paths are absolute and the same in the guest and here: sqlite3 finds the journal above both by its path."""

import contextlib
import sqlite3

ACCOUNTS, GROUPS = 64, 8
BALANCE = 10 ** 9
FILLER = 250  # bytes: an account's, so that they take some pages
RING = 300  # older rows of a history are replaced, so that no disk becomes full
ENTRIES = 3  # of a log, in a transaction

# Wait for whoever reads. A commit is on the disk when it is done, also what removes its journal.
SETUP = "PRAGMA synchronous = EXTRA;"


def generator(setup, transaction):
    """A program for the guest that writes SQL without an end. transaction: with $n, its number."""
    return ("#!/bin/busybox sh\n"
            f"echo '.timeout 100000'\necho '.output /dev/null'\necho '{SETUP} {setup}'\n"
            "echo '.output'\nn=0\n"
            f"while :; do\n    n=$((n + 1))\n    echo \"{transaction}\" || exit\ndone\n")


@contextlib.contextmanager
def opened(path):
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        yield db


def check_whole(db):
    """The database's own check, of all that is attached, too."""
    for _, name, _ in db.execute("PRAGMA database_list").fetchall():
        found = db.execute(f"PRAGMA {name}.integrity_check").fetchall()
        assert found == [("ok",)], (name, found)


def same_rows(got, expected, what):
    """Two lists of rows are equal; the message names the first difference."""
    for one, other in zip(got, expected):
        assert one == other, f"{what}: {str(one)[:50]}..., {str(other)[:50]}... expected"
    assert len(got) == len(expected), f"{what}: {len(got)} rows, {len(expected)} expected"


def history(last):
    """The numbers of the transactions in a ring, in order."""
    return range(max(1, last - RING + 1), last + 1)


class Ledger:
    name = "ledger"

    def __init__(self, one, other):
        self.path, self._other = f"{one}/ledger", f"{other}/ledger"

    def make(self):
        for path in self.path, self._other:
            with opened(path) as db:
                db.execute("CREATE TABLE account (id INTEGER PRIMARY KEY, balance, last, filler)")
                db.execute("CREATE TABLE history (slot INTEGER PRIMARY KEY, n, amount, filler)")
                db.executemany("INSERT INTO account VALUES (?, ?, 0, printf('%0*d', ?, 0))",
                               [(id, BALANCE, FILLER) for id in range(ACCOUNTS)])

    def script(self):
        def change(name, sign):
            return (f"UPDATE {name}.account SET balance = balance {sign} $((n % 100 + 1)), last = $n, "
                    f"filler = printf('%0{FILLER}d', $n) WHERE id % {GROUPS} = $((n % {GROUPS})); "
                    f"REPLACE INTO {name}.history VALUES ($((n % {RING})), $n, $((n % 100 + 1)), "
                    f"printf('%0{FILLER}d', $n)); ")
        return generator(f'ATTACH "{self._other}" AS other;',
                         f"BEGIN IMMEDIATE; {change('main', '-')}{change('other', '+')}"
                         f"COMMIT; SELECT '{self.name} $n';")

    def query(self):
        """SQL for the number of the last transaction."""
        return "SELECT max(last) FROM account"

    @staticmethod
    def _accounts(last, sign):
        accounts = {id: [BALANCE, 0] for id in range(ACCOUNTS)}
        for n in range(1, last + 1):
            for id in range(n % GROUPS, ACCOUNTS, GROUPS):
                accounts[id][0] += sign * (n % 100 + 1)
                accounts[id][1] = n
        return [(id, balance, n, f"{n:0{FILLER}}") for id, (balance, n) in accounts.items()]

    def last(self):
        with opened(self.path) as db:
            db.execute("ATTACH ? AS other", (self._other,))
            check_whole(db)
            last = db.execute(self.query()).fetchone()[0]
            for name, sign in ("main", -1), ("other", 1):
                same_rows(db.execute(f"SELECT * FROM {name}.account ORDER BY id").fetchall(),
                          self._accounts(last, sign), f"{name} after transaction {last}")
                same_rows(db.execute(f"SELECT * FROM {name}.history ORDER BY n").fetchall(),
                          [(n % RING, n, n % 100 + 1, f"{n:0{FILLER}}") for n in history(last)],
                          f"history of {name} after transaction {last}")
        return last


class Log:
    name = "log"

    def __init__(self, folder):
        self.path = f"{folder}/log"

    def make(self):
        with opened(self.path) as db:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("CREATE TABLE entry (id INTEGER PRIMARY KEY, n, body)")
            db.execute("CREATE INDEX by_body ON entry (body)")

    def script(self):
        entries = ", ".join(f"($((n % {RING} * {ENTRIES} + {i})), $n, printf('%0{FILLER}d', $n * {i + 7}))"
                            for i in range(ENTRIES))
        return generator("PRAGMA wal_autocheckpoint = 25;",
                         f"BEGIN IMMEDIATE; REPLACE INTO entry VALUES {entries}; COMMIT; "
                         f"SELECT '{self.name} $n';")

    def query(self):
        return "SELECT coalesce(max(n), 0) FROM entry"

    def last(self):
        with opened(self.path) as db:
            check_whole(db)
            last = db.execute(self.query()).fetchone()[0]
            same_rows(db.execute("SELECT * FROM entry ORDER BY n, id").fetchall(),
                      [(n % RING * ENTRIES + i, n, f"{n * (i + 7):0{FILLER}}")
                       for n in history(last) for i in range(ENTRIES)],
                      f"the log after transaction {last}")
        return last
