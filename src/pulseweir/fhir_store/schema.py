"""The tables of the store, as migrations; `user_version` counts those applied. Pure.

``resource`` holds the current version of everything, ``history`` every superseded one. Observations have their
own narrow table, so that a chart query walks one index. All other search parameters live in two generic
tables: ``text_index`` (tokens, references, strings, URIs) and ``range_index`` (dates in microseconds, numbers).
Instants are microseconds since 1970 UTC; type, parameter and system names are interned in ``term``.
"""

MIGRATIONS = (
    """
    CREATE TABLE term (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);
    CREATE TABLE resource (
        pk INTEGER PRIMARY KEY,
        type INTEGER NOT NULL,
        id TEXT NOT NULL,
        version INTEGER NOT NULL,
        updated INTEGER NOT NULL,
        deleted INTEGER NOT NULL DEFAULT 0,
        meta BLOB NOT NULL,
        content BLOB NOT NULL
    );
    CREATE UNIQUE INDEX resource_identity ON resource (type, id);
    CREATE INDEX resource_updated ON resource (type, updated);
    CREATE TABLE history (
        pk INTEGER NOT NULL,
        version INTEGER NOT NULL,
        updated INTEGER NOT NULL,
        deleted INTEGER NOT NULL,
        meta BLOB NOT NULL,
        content BLOB NOT NULL,
        PRIMARY KEY (pk, version)
    ) WITHOUT ROWID;
    CREATE TABLE observation (
        pk INTEGER PRIMARY KEY,
        subject INTEGER,
        code_set INTEGER,
        low INTEGER NOT NULL,
        high INTEGER NOT NULL,
        status INTEGER,
        category_set INTEGER,
        device INTEGER,
        encounter INTEGER
    );
    CREATE INDEX observation_chart ON observation (subject, code_set, low);
    CREATE INDEX observation_subject ON observation (subject, low);
    CREATE INDEX observation_code ON observation (code_set, low);
    CREATE INDEX observation_device ON observation (device, low) WHERE device IS NOT NULL;
    CREATE INDEX observation_encounter ON observation (encounter, low) WHERE encounter IS NOT NULL;
    CREATE TABLE token_set (
        token_set INTEGER NOT NULL, value TEXT NOT NULL, system INTEGER NOT NULL,
        PRIMARY KEY (value, system, token_set)
    ) WITHOUT ROWID;
    CREATE TABLE text_index (
        pk INTEGER NOT NULL, parameter INTEGER NOT NULL, value TEXT NOT NULL, system INTEGER NOT NULL,
        PRIMARY KEY (pk, parameter, value, system)
    ) WITHOUT ROWID;
    CREATE INDEX text_index_value ON text_index (parameter, value, system);
    CREATE TABLE range_index (
        pk INTEGER NOT NULL, parameter INTEGER NOT NULL, low NOT NULL, high NOT NULL,
        PRIMARY KEY (pk, parameter, low, high)
    ) WITHOUT ROWID;
    CREATE INDEX range_index_low ON range_index (parameter, low, high);
    """,
)
