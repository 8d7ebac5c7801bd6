"""Names as numbers: what many rows of the index repeat is interned."""

from collections.abc import Iterable
from typing import Any

import apsw

_MOST_KEPT, _LONGEST_KEPT = 100_000, 1_000
"""How many names are remembered, and letters of the longest: a text of a client's may have millions."""


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

    def find_all(self, texts: Iterable[str]) -> list[int]:
        """The ids of those names that are used, in any order; one question for all that are not remembered."""
        held = {text: self._ids.get(text) for text in texts}
        unknown = [text for text, number in held.items() if number is None]
        if unknown:
            among = ", ".join("?" * len(unknown))
            statement = f"SELECT text, id FROM term WHERE text IN ({among})"  # noqa: S608
            rows: list[Any] = self._connection.execute(statement, unknown).fetchall()
            for text, number in rows:
                held[text] = number
                self._keep(text, number)
        return [number for number in held.values() if number is not None]

    def newest(self) -> int:
        """The greatest id: as long as it is the same, no other name came into use."""
        return int(self._connection.execute("SELECT coalesce(max(id), 0) FROM term").get)

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
        if len(text) > _LONGEST_KEPT:
            return
        if len(self._ids) > _MOST_KEPT:
            self.forget()
        self._ids[text] = number
