"""The ledger's tables. A change of shape is a new VERSION and a step in `_STEPS`."""

from __future__ import annotations

import secrets
import sqlite3

from fumehood.errors import LedgerError

__all__ = ["APPLICATION_ID", "VERSION", "check", "prepare"]

VERSION = 1
APPLICATION_ID = 0x46554D45  # "FUME"

_TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

CREATE TABLE writers (
  n INTEGER PRIMARY KEY, pid INTEGER NOT NULL, program TEXT NOT NULL, lease TEXT NOT NULL
);

CREATE TABLE sessions (
  id TEXT PRIMARY KEY, agent TEXT NOT NULL, user TEXT, roles TEXT NOT NULL, prompt TEXT,
  conversation_id TEXT, is_implicit INTEGER NOT NULL, at REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX sessions_agent ON sessions (agent);

-- Append only. agent_n numbers the calls of one agent, so that a window is a subtraction.
CREATE TABLE events (
  seq INTEGER PRIMARY KEY, at REAL NOT NULL, kind TEXT NOT NULL, session_id TEXT NOT NULL,
  agent TEXT NOT NULL, tool TEXT NOT NULL, attempt_id TEXT NOT NULL, effect TEXT NOT NULL,
  summary TEXT NOT NULL, attributes TEXT NOT NULL, labels TEXT, agent_n INTEGER, writer INTEGER NOT NULL
);
CREATE INDEX events_session ON events (session_id);
CREATE INDEX events_agent ON events (agent, at, agent_n) WHERE agent_n IS NOT NULL;

-- The policy input of a decision, redacted. Apart from events, so that a list of events stays small.
CREATE TABLE documents (seq INTEGER PRIMARY KEY, body BLOB NOT NULL);

-- scope is a session's id with its tools, or '' with agents.
CREATE TABLE counters (
  scope TEXT NOT NULL, name TEXT NOT NULL, calls INTEGER NOT NULL, denied INTEGER NOT NULL,
  PRIMARY KEY (scope, name)
) WITHOUT ROWID;

CREATE TABLE limits (
  key TEXT PRIMARY KEY, last_at REAL NOT NULL, total INTEGER NOT NULL, horizon_s REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE spends (
  key TEXT NOT NULL, at REAL NOT NULL, n INTEGER NOT NULL, cost INTEGER NOT NULL, total INTEGER NOT NULL,
  PRIMARY KEY (key, at, n)
) WITHOUT ROWID;

CREATE TABLE approvals (
  id TEXT PRIMARY KEY, revision INTEGER NOT NULL, state TEXT NOT NULL, session_id TEXT NOT NULL,
  attempt_id TEXT NOT NULL, agent TEXT NOT NULL, user TEXT, tool TEXT NOT NULL,
  definition_digest TEXT NOT NULL, call_id TEXT, digest TEXT NOT NULL, args BLOB NOT NULL,
  injected TEXT NOT NULL, reasons TEXT NOT NULL, policy_revision TEXT NOT NULL, rules TEXT NOT NULL,
  created_at REAL NOT NULL, expires_at REAL, lease TEXT NOT NULL, waiter_pid INTEGER NOT NULL,
  waiter_start INTEGER NOT NULL, decided_by TEXT, decided_at REAL, note TEXT
) WITHOUT ROWID;
CREATE INDEX approvals_open ON approvals (created_at) WHERE state IN ('pending', 'approved', 'claimed');

CREATE TABLE claims (
  n INTEGER PRIMARY KEY, session_id TEXT NOT NULL, call_id TEXT, digest TEXT NOT NULL, key BLOB NOT NULL,
  attempt_id TEXT NOT NULL UNIQUE, agent TEXT NOT NULL, tool TEXT NOT NULL, state TEXT NOT NULL,
  lease TEXT NOT NULL, approval_id TEXT, at REAL NOT NULL, ended_at REAL, result BLOB
);
CREATE INDEX claims_call ON claims (session_id, call_id) WHERE call_id IS NOT NULL;
CREATE INDEX claims_open ON claims (lease) WHERE state = 'open';

CREATE TABLE stops (
  seq INTEGER PRIMARY KEY, scope TEXT NOT NULL, value TEXT NOT NULL, by TEXT NOT NULL,
  reason TEXT NOT NULL, at REAL NOT NULL, lifted_at REAL
);
CREATE INDEX stops_now ON stops (scope, value) WHERE lifted_at IS NULL;
"""


def prepare(db: sqlite3.Connection, path: str) -> None:
    """Make the tables if the file is new, inside the caller's transaction.

    Raises:
        LedgerError: the file is something else, or of a version that is not known here.
    """
    if _number(db, "user_version") == 0 and not db.execute("SELECT 1 FROM sqlite_master").fetchone():
        for statement in _TABLES.split(";\n"):
            if statement.strip():
                db.execute(statement)
        db.execute("INSERT INTO meta VALUES ('origin', ?)", (secrets.token_hex(16),))
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {VERSION}")
    check(db, path)


def check(db: sqlite3.Connection, path: str) -> None:
    """Refuse what is not a ledger of this version.

    Raises:
        LedgerError: says what was found, what was expected and what to do.
    """
    if _number(db, "application_id") != APPLICATION_ID:
        raise LedgerError(
            f"{path} is a SQLite file of something else, not a ledger; name another file with --ledger "
            "or $FUMEHOOD_LEDGER",
            code="ledger_foreign",
        )
    found = _number(db, "user_version")
    if found != VERSION:
        raise LedgerError(
            f"{path} is a ledger of version {found}; this Fumehood reads version {VERSION}. "
            "Use the Fumehood that wrote it, or name another file",
            code="ledger_version",
        )


def _number(db: sqlite3.Connection, pragma: str) -> int:
    return int(db.execute(f"PRAGMA {pragma}").fetchone()[0])
