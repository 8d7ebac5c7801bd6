"""Step 4: what ``$`` and ``@`` mean to an expression of a template, as generated source. Pure."""

from pulseweir.ingest.device_mapping.source_lines import Source

_TOKEN_MEMBER = "matchedToken"  # noqa: S105


class Scope:
    """The document an expression sees.

    Args:
        source: Where lines go.
        root: The name that holds the document; for CalculatedContent the envelope.
        is_object: Whether that document is known to be an object.
        token: For CalculatedContent the name that holds the match, which the document shows as ``matchedToken``.
        is_token_object: Whether the match is known to be an object.
    """

    def __init__(
        self, source: Source, root: str, *, is_object: bool, token: str | None = None, is_token_object: bool = False
    ) -> None:
        self._source = source
        self._root = root
        self._token = token
        self._objects: dict[tuple[str, ...], str] = {(): root} if is_object else {}
        self._whole: str | None = None if token else root
        if token and is_token_object:
            self._objects[_TOKEN_MEMBER,] = token

    def whole(self) -> str:
        """The name that holds the whole document."""
        if self._whole is None:
            member = f"{{**{self._root}, {_TOKEN_MEMBER!r}: {self._token}}}"
            self._whole = self._source.assign(member, "s")
        return self._whole

    def member(self, names: tuple[str, ...], absent: str | None = None) -> str:
        """An expression for the member at a path of names; `absent`, or None's value, where there is none."""
        if not names:
            return self.whole()
        if self._token and names == (_TOKEN_MEMBER,):
            return self._token
        last = self._source.constant(names[-1])
        return f"{self._object(names[:-1])}.get({last}{', ' + absent if absent else ''})"

    def _object(self, names: tuple[str, ...]) -> str:
        """The name of the object at a path; an empty object where there is none."""
        known = self._objects.get(names)
        if known is None:
            found = self.member(names) if names else self._root
            known = self._source.assign(found, "o")
            with self._source.block(f"if type({known}) is not dict:"):
                self._source.add(f"{known} = EMPTY")
            self._objects[names] = known
        return known

    def with_token(self, token: str, *, is_object: bool) -> "Scope":
        """What later expressions of a CalculatedContent template see: this document, and the match beside it."""
        scope = Scope(self._source, self._root, is_object=False, token=token, is_token_object=is_object)
        for names, known in self._objects.items():
            if names[:1] != (_TOKEN_MEMBER,):
                scope._objects.setdefault(names, known)  # noqa: SLF001
        return scope

    def branch(self) -> "Scope":
        """The same scope inside a block: what it names there is not known behind it."""
        copy = Scope(self._source, self._root, is_object=False, token=self._token)
        copy._objects = dict(self._objects)  # noqa: SLF001
        copy._whole = self._whole  # noqa: SLF001
        return copy
