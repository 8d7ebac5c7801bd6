"""Whether a narrative is what R4 allows: basic formatting, nothing that runs or is fetched unasked. Pure.

Source: HL7 FHIR R4, txt-1 and txt-2, http://hl7.org/fhir/R4/narrative.html#xhtml.
"""

import re
from xml.parsers import expat

XHTML = "http://www.w3.org/1999/xhtml"
_TAG = re.compile(
    "a|abbr|acronym|b|big|blockquote|br|caption|cite|code|col|colgroup|dd|del|dfn|div|dl|dt|em|h[1-6]|hr|i|img|ins|kbd"
    "|li|ol|p|pre|q|s|samp|small|span|strike|strong|sub|sup|table|tbody|td|tfoot|th|thead|tr|tt|u|ul|var"
)
_ANYWHERE = re.compile(
    "title|style|class|id|lang|dir|accesskey|tabindex|span|width|align|valign|char|charoff|abbr|axis|headers|scope"
    "|rowspan|colspan|http://www.w3.org/XML/1998/namespace lang"
)
_ONLY_ON = {
    "a": re.compile("charset|type|name|href|hreflang|rel|rev|shape|coords"),
    "img": re.compile("src|alt|longdesc|height|usemap|ismap|border"),
    "table": re.compile("summary|border|frame|rules|cellspacing|cellpadding"),
    "blockquote": re.compile("cite"),
    "q": re.compile("cite"),
    "pre": re.compile("space"),
    "td": re.compile("nowrap"),
    "th": re.compile("nowrap"),
}
_ADDRESSES = frozenset({"href", "src", "cite", "longdesc"})
_NO_TEXT = re.compile(r"/\*.*?\*/|[\s\x00-\x20\\]+", re.DOTALL)
_ACTIVE_ADDRESS = re.compile(r"(java|vb|live)script:|data:(?!image/)", re.IGNORECASE)
_ACTIVE_STYLE = re.compile(r"(java|vb)script:|expression\(|behaviou?r:|-moz-binding|@import", re.IGNORECASE)
_NO_DIV = "must be one XHTML div"
_NOT_BASIC = "breaks txt-1: only basic formatting is allowed in a narrative"
_EMPTY = "breaks txt-2: a narrative must not be empty"


class _NotAllowed(Exception):  # noqa: N818 - never leaves this module
    """Stops the parser at what a narrative must not hold."""


def narrative_fault(text: str) -> str | None:
    """What is wrong with the div of a narrative, as the end of a sentence; None when nothing is.

    >>> narrative_fault('<div xmlns="http://www.w3.org/1999/xhtml">Well.</div>')
    >>> narrative_fault("<div><script>x</script></div>")
    'breaks txt-1: only basic formatting is allowed in a narrative'
    """
    text = text.strip()
    if not text.startswith("<div"):
        return _NO_DIV
    reader = _Reader()
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler = reader.begins
    parser.CharacterDataHandler = reader.says
    parser.StartDoctypeDeclHandler = reader.refuses
    parser.ProcessingInstructionHandler = reader.refuses
    try:
        parser.Parse(text, True)
    except expat.ExpatError:
        return _NO_DIV
    except _NotAllowed:
        return _NOT_BASIC
    return None if reader.has_content else _EMPTY


class _Reader:
    """What the parser comes upon."""

    def __init__(self) -> None:
        self.has_content = False
        self._is_within = False

    def begins(self, name: str, attributes: dict[str, str]) -> None:
        """An element."""
        space, _, tag = name.rpartition(" ")
        if space not in {"", XHTML} or not _TAG.fullmatch(tag) or not (self._is_within or tag == "div"):
            raise _NotAllowed
        self._is_within = True
        self.has_content = self.has_content or tag == "img"
        for attribute, value in attributes.items():
            own = _ONLY_ON.get(tag, _ANYWHERE)
            if not (_ANYWHERE.fullmatch(attribute) or own.fullmatch(attribute)) or _is_active(attribute, value):
                raise _NotAllowed

    def says(self, text: str) -> None:
        """Text between elements."""
        self.has_content = self.has_content or bool(text.strip())

    def refuses(self, *_: object) -> None:
        """Declarations and instructions have no place in a narrative."""
        raise _NotAllowed


def _is_active(attribute: str, value: str) -> bool:
    """Whether a browser would run what the value of an attribute says."""
    plain = _NO_TEXT.sub("", value)
    if attribute == "style":
        return _ACTIVE_STYLE.search(plain) is not None
    return attribute in _ADDRESSES and _ACTIVE_ADDRESS.match(plain) is not None
