"""Step 4: going through a decoded message, within its budget. Pure.

A token is tested for ``dict`` and ``list`` themselves: decoded JSON knows no subclasses.
"""

from collections.abc import Iterator

from pulseweir.ingest.device_mapping.budget import VISIT_STEPS, Budget

Tokens = list[object]
_CONTAINERS = frozenset({dict, list})


def descend(token: object, budget: Budget) -> Iterator[object]:
    """The token and all descendants in document order."""
    stack: Tokens = [token]
    while stack:
        value = stack.pop()
        yield value
        if type(value) is dict:
            budget.spend(VISIT_STEPS * (1 + len(value)))
            stack.extend(reversed(value.values()))
        elif type(value) is list:
            budget.spend(VISIT_STEPS * (1 + len(value)))
            stack.extend(reversed(value))


def members_below(tokens: Tokens, names: tuple[str, ...] | None, budget: Budget) -> Tokens:
    """Members of these names of the tokens and all their descendants; for None everything, the tokens too."""
    found: Tokens = []
    if names is None:
        for token in tokens:
            found += descend(token, budget)
        return found
    for token in tokens:
        stack: list[tuple[str | None, object]] = [(None, token)]
        while stack:
            name, value = stack.pop()
            if name in names:
                found.append(value)
            if type(value) is dict:
                budget.spend(VISIT_STEPS * (1 + len(value)))
                stack.extend(reversed(value.items()))
            elif type(value) is list:
                if _CONTAINERS.isdisjoint(map(type, value)):
                    budget.spend(VISIT_STEPS + (len(value) >> 3))
                else:
                    budget.spend(VISIT_STEPS * (1 + len(value)))
                    stack.extend((None, item) for item in reversed(value))
    return found


def objects_of(token: object, budget: Budget) -> Tokens:
    """Every object among the token and its descendants, in document order."""
    known = budget.walked.get(id(token))
    if known is not None:
        return known[1]
    found = _walk(token, budget)
    budget.walked[id(token)] = (token, found)
    return found


def _walk(token: object, budget: Budget) -> Tokens:
    found: Tokens = []
    stack: Tokens = [token]
    while stack:
        value = stack.pop()
        if type(value) is dict:
            found.append(value)
            children: Tokens = [child for child in value.values() if type(child) is dict or type(child) is list]
        elif type(value) is list:
            if _CONTAINERS.isdisjoint(map(type, value)):
                budget.spend(VISIT_STEPS + (len(value) >> 3))
                continue
            children = [child for child in value if type(child) is dict or type(child) is list]
        else:
            continue
        budget.spend(VISIT_STEPS + len(value))
        children.reverse()
        stack += children
    return found
