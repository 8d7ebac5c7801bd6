"""What is remembered between requests stays small, however long the texts are that clients send."""

import gc
import tracemalloc
from typing import Any

import httpx
import pytest

LETTERS, TIMES = 200_000, 20
FORM = {"content-type": "application/x-www-form-urlencoded"}
Json = dict[str, Any]


def basic(text: str) -> Json:
    return {"resourceType": "Basic", "code": {"text": "x"}, "identifier": [{"system": text, "value": "1"}]}


def observation(concept: Json) -> Json:
    return {"resourceType": "Observation", "status": "final", "code": concept}


def request(kind: str, text: str) -> tuple[str, Json]:
    match kind:
        case "value":
            return "Patient/_search", {"content": f"name={text}", "headers": FORM}
        case "name":
            return "Patient/_search", {"content": f"{text}=x", "headers": FORM}
        case "coding":
            return "Observation", {"json": observation({"coding": [{"system": "u:x", "code": text, "display": text}]})}
        case "text":
            return "Observation", {"json": observation({"coding": [{"code": "c"}], "text": text})}
    return "Basic", {"json": basic(f"urn:{text}")}


@pytest.mark.parametrize("kind", ["value", "name", "coding", "text", "system"])
async def test_long_texts_are_not_remembered(http: httpx.AsyncClient, kind: str) -> None:
    await http.post(request(kind, "first")[0], **request(kind, "x" * LETTERS)[1])
    tracemalloc.start()
    try:
        for number in range(TIMES):
            path, sent = request(kind, f"{number}{'x' * LETTERS}")
            answer = await http.post(path, **sent)
            assert answer.status_code < 500
        del answer, sent
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert held < TIMES * LETTERS / 2
