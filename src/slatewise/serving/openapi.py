"""The description of the wire, made from the very types that read it."""

from __future__ import annotations

from typing import Any

import msgspec

from slatewise.serving.checks import MAX_FEEDBACK, MAX_ID, MAX_INT, MAX_RECORDS, MAX_SECONDS, NAME
from slatewise.serving.records import Feedback
from slatewise.serving.settings import Settings
from slatewise.serving.wire import ErrorAnswer, FeedbackAnswer, RankAnswer, RankRequest

TYPES = (RankRequest, RankAnswer, Feedback, FeedbackAnswer, ErrorAnswer)
ID: dict[str, dict[str, Any]] = {
    "integer": {"minimum": -MAX_INT, "maximum": MAX_INT - 1},
    "string": {"maxLength": MAX_ID, "pattern": "^[^\\x00]*$"},
}
FAULTS = {
    "400": "The body is no JSON.",
    "401": "No key, or one that is none of this server's.",
    "413": "The body is too large.",
    "422": "Something in it is not allowed; `field` is the path to it.",
    "503": "The server is full, or a store does not answer: try again after Retry-After seconds.",
}


def document(settings: Settings, version: str) -> dict[str, Any]:
    """The OpenAPI 3.1 document."""
    _, components = msgspec.json.schema_components(TYPES, ref_template="#/components/schemas/{name}")
    _tighten(components, settings)
    keyed: list[Any] = [{"key": []}] if settings.keys else []
    rank = _call(
        "Rank one request, or a list of them", "RankRequest", "RankAnswer", settings.allowed.requests, keyed
    )
    feedback = _call("Say what users did with a list", "Feedback", "FeedbackAnswer", MAX_RECORDS, keyed)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Slatewise",
            "version": version,
            "description": "The best ordered list of a request's candidates, and feedback on it.",
        },
        "paths": {
            "/v1/rank": {"post": rank},
            "/v1/feedback": {"post": feedback},
            "/v1/info": {"get": _get("The rankers and their limits", keyed)},
            "/metrics": {"get": _get("Counters, in Prometheus' form", keyed, "text/plain")},
            "/livez": {"get": _get("The process answers", [])},
            "/readyz": {"get": _get("Every ranker is loaded and warm", [])},
        },
        "components": {
            "schemas": components,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _tighten(components: dict[str, Any], settings: Settings) -> None:
    """Bounds that are checked behind the types."""
    asked, event = components["RankRequest"]["properties"], components["Feedback"]["properties"]
    asked["candidates"] |= {"minItems": 1, "maxItems": settings.limits.candidates, "uniqueItems": True}
    met, times, values = (
        asked[name]["anyOf"][0]["items"] for name in ("history", "history_timestamp", "history_feedback")
    )
    times |= {"minimum": -MAX_SECONDS, "maximum": MAX_SECONDS}
    values |= {"minimum": -MAX_FEEDBACK, "maximum": MAX_FEEDBACK}
    ids = [asked["candidates"]["items"], met, *(asked[name] for name in ("user_id", "request_id"))]
    for schema in (*ids, *(event[name] for name in ("request_id", "item_id", "event_id", "timestamp"))):
        for one in schema.get("anyOf", [schema]):
            one |= ID.get(one["type"], {})
    for schema in (asked["request_id"]["anyOf"][0], event["request_id"]):
        schema["minLength"] = 1
    event["kind"]["pattern"] = f"^{NAME.pattern}$"
    event["position"]["anyOf"][0] |= {"minimum": 1, "maximum": MAX_INT - 1}
    for name in ("features", "context"):
        asked[name]["propertyNames"] = {"pattern": f"^{NAME.pattern}$"}
    asked["deadline_ms"]["anyOf"][0] |= {"exclusiveMinimum": 0, "maximum": 60_000}
    asked["length"]["anyOf"][0] |= {"minimum": 1}
    components["Feedback"]["anyOf"] = [
        {"required": ["item_id"], "properties": {"item_id": {"type": ["integer", "string"]}}},
        {"required": ["position"], "properties": {"position": {"type": "integer"}}},
    ]


def _call(summary: str, asked: str, answered: str, most: int, keyed: list[Any]) -> dict[str, Any]:
    return {
        "summary": summary,
        "security": keyed,
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": _or_several(asked, most)}},
        },
        "responses": {"200": _answer("Done", _or_several(answered, most)), **_faults(*FAULTS)},
    }


def _get(summary: str, keyed: list[Any], kind: str = "application/json") -> dict[str, Any]:
    content = {kind: {"schema": {"type": "object"} if kind.endswith("json") else {"type": "string"}}}
    responses = {"200": {"description": "Done", "content": content}, **_faults("401", "503")}
    return {"summary": summary, "security": keyed, "responses": responses}


def _or_several(name: str, most: int) -> dict[str, Any]:
    one = {"$ref": f"#/components/schemas/{name}"}
    return {"oneOf": [one, {"type": "array", "items": one, "minItems": 1, "maxItems": most}]}


def _faults(*codes: str) -> dict[str, Any]:
    fault = {"$ref": "#/components/schemas/ErrorAnswer"}
    return {code: _answer(FAULTS[code], fault) for code in codes}


def _answer(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}
