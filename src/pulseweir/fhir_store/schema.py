"""The tables of the store, as migrations; `user_version` counts those applied. Pure.

``resource`` holds the current version of everything, and whether its first came by POST; ``history`` holds every
superseded one. Observations have their own narrow table, so that a chart query walks one index, and so have their
components. All other search parameters live in generic tables: ``text_index`` (tokens, references, strings, URIs),
``range_index`` (dates in microseconds, numbers) and ``amount_index`` (quantities in their own unit). Sets of codings
and units are interned: ``token_set`` and ``token_text`` hold the codes and texts of a set, ``unit`` what a unit is.
``setting`` names the definitions that the index was made with. ``change`` has the versions of a ``followed_type``
that Subscriptions have not looked at yet, ``subscription`` how each of these stands, ``subscription_event`` what it
was or will be told, ``subscription_maker`` who wrote which version of it. Instants are microseconds since 1970 UTC;
names are interned in ``term``.
"""

INDEX_TABLES = ("text_index", "range_index", "amount_index", "observation", "observation_component")
"""Tables with the rows by which a resource is found, each with its `pk`."""

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
    """
    CREATE TABLE setting (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE unit (
        unit INTEGER PRIMARY KEY, system TEXT NOT NULL, code TEXT NOT NULL, text TEXT NOT NULL
    );
    CREATE TABLE token_text (
        token_set INTEGER NOT NULL, text TEXT NOT NULL, PRIMARY KEY (text, token_set)
    ) WITHOUT ROWID;
    CREATE TABLE amount_index (
        pk INTEGER NOT NULL, parameter INTEGER NOT NULL, unit INTEGER NOT NULL, low NOT NULL, high NOT NULL,
        PRIMARY KEY (pk, parameter, unit, low, high)
    ) WITHOUT ROWID;
    CREATE INDEX amount_index_low ON amount_index (parameter, unit, low, high);
    ALTER TABLE observation ADD COLUMN value_low REAL;
    ALTER TABLE observation ADD COLUMN value_high REAL;
    ALTER TABLE observation ADD COLUMN value_unit INTEGER;
    ALTER TABLE observation ADD COLUMN concept_set INTEGER;
    CREATE INDEX observation_value ON observation (code_set, value_unit, value_low) WHERE value_low IS NOT NULL;
    CREATE INDEX observation_concept ON observation (concept_set, low) WHERE concept_set IS NOT NULL;
    CREATE TABLE observation_component (
        pk INTEGER NOT NULL,
        place INTEGER NOT NULL,
        code_set INTEGER,
        value_low REAL,
        value_high REAL,
        value_unit INTEGER,
        concept_set INTEGER,
        PRIMARY KEY (pk, place)
    ) WITHOUT ROWID;
    CREATE INDEX observation_component_value ON observation_component (code_set, value_unit, value_low);
    """,
    """
    ALTER TABLE history ADD COLUMN type INTEGER NOT NULL DEFAULT 0;
    UPDATE history SET type = (SELECT type FROM resource WHERE resource.pk = history.pk);
    CREATE INDEX history_updated ON history (type, updated);
    """,
    """
    CREATE TABLE followed_type (type INTEGER PRIMARY KEY);
    CREATE TABLE change (
        position INTEGER PRIMARY KEY AUTOINCREMENT, pk INTEGER NOT NULL, version INTEGER NOT NULL
    );
    CREATE TRIGGER change_created AFTER INSERT ON resource
    WHEN EXISTS (SELECT 1 FROM followed_type WHERE type = NEW.type)
    BEGIN INSERT INTO change (pk, version) VALUES (NEW.pk, NEW.version); END;
    CREATE TRIGGER change_updated AFTER UPDATE OF version ON resource
    WHEN EXISTS (SELECT 1 FROM followed_type WHERE type = NEW.type)
    BEGIN INSERT INTO change (pk, version) VALUES (NEW.pk, NEW.version); END;
    CREATE TABLE subscription (
        pk INTEGER PRIMARY KEY,
        version INTEGER NOT NULL,
        status TEXT NOT NULL,
        watched INTEGER NOT NULL,
        since_position INTEGER,
        events INTEGER NOT NULL DEFAULT 0,
        delivered INTEGER NOT NULL DEFAULT 0,
        failures INTEGER NOT NULL DEFAULT 0,
        failing_since INTEGER,
        error TEXT NOT NULL DEFAULT ''
    );
    CREATE TABLE subscription_event (
        subscription INTEGER NOT NULL,
        number INTEGER NOT NULL,
        pk INTEGER NOT NULL,
        version INTEGER NOT NULL,
        interaction TEXT NOT NULL,
        PRIMARY KEY (subscription, number)
    ) WITHOUT ROWID;
    """,
    """
    CREATE TABLE subscription_maker (
        pk INTEGER NOT NULL, version INTEGER NOT NULL, maker TEXT NOT NULL, PRIMARY KEY (pk, version)
    ) WITHOUT ROWID;
    """,
    "ALTER TABLE resource ADD COLUMN posted INTEGER NOT NULL DEFAULT 0;",
)
