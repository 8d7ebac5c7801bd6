"""Names as numbers: what many rows of the index repeat is interned."""

import apsw


class Terms:
    """Interned names, read through one connection; an id once committed never changes."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._ids: dict[str, int] = {"": 0}

    def find(self, text: str) -> int | None:
        """The id of a name, None when no resource ever used it."""
        found = self._ids.get(text)
        if found is None:
            found = self._connection.execute("SELECT id FROM term WHERE text = ?", (text,)).get
            if found is not None:
                self._keep(text, int(found))
        return found

    def intern(self, text: str) -> int:
        """The id of a name, made when it is new; only inside a write transaction."""
        found = self._ids.get(text)
        if found is None:
            found = self.find(text)
        if found is None:
            self._connection.execute("INSERT INTO term (text) VALUES (?)", (text,))
            found = self._connection.last_insert_rowid()
            self._keep(text, found)
        return found

    def forget(self) -> None:
        """Drop what is remembered; needed after a rollback."""
        self._ids = {"": 0}

    def _keep(self, text: str, number: int) -> None:
        if len(self._ids) > 100_000:
            self.forget()
        self._ids[text] = number
