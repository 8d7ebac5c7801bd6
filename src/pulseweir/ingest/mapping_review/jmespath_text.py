"""Step 4: JMESPath syntax trees back to text, to show and to try parts of an expression. Pure."""

import json
import re
from collections.abc import Callable
from typing import Any

Tree = dict[str, Any]
_BARE = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_COMPARATORS = {"eq": "==", "ne": "!=", "lt": "<", "lte": "<=", "gt": ">", "gte": ">="}
_LOOSE = {
    *("and_expression", "or_expression", "pipe", "comparator"),
    *("projection", "value_projection", "filter_projection"),
}
_BINARY = {"and_expression": " && ", "or_expression": " || ", "pipe": " | "}


def tree_text(tree: Tree) -> str:
    """The text of a syntax tree.

    >>> import jmespath
    >>> tree_text(jmespath.compile("to_array(@)[?hr > `5` && unit == 'bpm'].hr | [0]").parsed)
    "to_array(@)[?hr > `5` && unit == 'bpm'].hr | [0]"
    """
    kind, children = tree["type"], tree["children"]
    if kind in _BINARY:
        return _BINARY[kind].join(_operand(child, kind) for child in children)
    if kind == "comparator":
        return f"{tree_text(children[0])} {_COMPARATORS[tree['value']]} {tree_text(children[1])}"
    if kind in _SIMPLE:
        return _SIMPLE[kind](tree)
    if kind in {"projection", "value_projection", "filter_projection"}:
        return _projection(tree)
    texts = [tree_text(child) for child in children]
    if kind == "subexpression":
        return _start(children[0]) + "".join(_chained(text) for text in texts[1:])
    if kind == "index_expression":
        first = "" if children[0]["type"] == "identity" else _start(children[0])
        return first + texts[1]
    if kind == "function_expression":
        return f"{tree['value']}({', '.join(texts)})"
    return "{" + ", ".join(texts) + "}" if kind == "multi_select_dict" else "[" + ", ".join(texts) + "]"


def _operand(tree: Tree, parent: str) -> str:
    text = tree_text(tree)
    return f"({text})" if tree["type"] in _BINARY and tree["type"] != parent else text


def _start(tree: Tree) -> str:
    text = tree_text(tree)
    return f"({text})" if tree["type"] in _LOOSE else text


def _chained(text: str) -> str:
    return text if text.startswith(("[?", "[*]")) else f".{text}"


def _projection(tree: Tree) -> str:
    left, right = tree["children"][:2]
    start = "" if left["type"] == "identity" else tree_text(left)
    if tree["type"] == "filter_projection":
        start += f"[?{tree_text(tree['children'][2])}]"
    elif tree["type"] == "value_projection":
        start += ".*" if start else "*"
    elif left["type"] != "flatten" and not _ends_in_slice(left):
        start += "[*]"
    return start if right["type"] == "identity" else start + _after(right)


def _after(right: Tree) -> str:
    text = tree_text(right)
    return text if text.startswith("[") and right["type"] != "multi_select_list" else f".{text}"


def _ends_in_slice(tree: Tree) -> bool:
    return bool(tree["type"] == "index_expression" and tree["children"][-1]["type"] == "slice")


def _name(text: str) -> str:
    return text if _BARE.fullmatch(text) else json.dumps(text)


def _literal(tree: Tree) -> str:
    value = tree["value"]
    if isinstance(value, str) and "'" not in value and "\\" not in value:
        return f"'{value}'"
    return "`" + json.dumps(value).replace("`", "\\`") + "`"


def _slice(tree: Tree) -> str:
    start, stop, step = ("" if part is None else str(part) for part in tree["children"])
    return f"[{start}:{stop}{':' + step if step else ''}]"


def _flatten(tree: Tree) -> str:
    inner = tree["children"][0]
    return ("" if inner["type"] == "identity" else tree_text(inner)) + "[]"


_SIMPLE: dict[str, Callable[[Tree], str]] = {
    "field": lambda tree: _name(tree["value"]),
    "literal": _literal,
    "current": lambda tree: "@",
    "identity": lambda tree: "@",
    "index": lambda tree: f"[{tree['value']}]",
    "slice": _slice,
    "flatten": _flatten,
    "not_expression": lambda tree: f"!{_operand(tree['children'][0], '')}",
    "expref": lambda tree: f"&{tree_text(tree['children'][0])}",
    "key_val_pair": lambda tree: f"{_name(tree['value'])}: {tree_text(tree['children'][0])}",
}
