"""A pydantic type as a strict JSON schema: what servers with structured output accept.

Every property is required, nothing else is allowed, and an integer range is an `enum`, because grammars
(llama.cpp) ignore `minimum` and `maximum`. Keywords that strict servers refuse are left to pydantic, which
checks every answer anyway.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from tasks.models.protocol import JsonSchema

WIDEST_ENUM = 101
_KEPT = ("type", "description", "enum", "const", "anyOf", "items", "properties", "$ref", "$defs")


def strict_schema(answer_type: type[BaseModel]) -> JsonSchema:
    """The schema of a type. `TypeError` for free-form mappings, which no strict schema can express."""
    return JsonSchema(answer_type.__name__, _strict(answer_type.model_json_schema()))


def _strict(node: dict[str, Any]) -> dict[str, Any]:
    if "oneOf" in node:
        node = {**node, "anyOf": node["oneOf"]}
    if node.get("type") == "integer" and "enum" not in node:
        node = _range_as_enum(node)
    kept = {name: _strict_part(name, node[name]) for name in _KEPT if name in node}
    if node.get("type") == "object":
        if "properties" not in node:
            raise TypeError("a free-form mapping has no strict JSON schema: name its fields")
        kept |= {"required": list(node["properties"]), "additionalProperties": False}
    return kept


def _strict_part(name: str, part: Any) -> Any:
    if name in ("properties", "$defs"):
        return {key: _strict(value) for key, value in part.items()}
    if name == "anyOf":
        return [_strict(option) for option in part]
    return _strict(part) if name == "items" else part


def _range_as_enum(node: dict[str, Any]) -> dict[str, Any]:
    low = node.get("minimum", node.get("exclusiveMinimum", 0) + 1 if "exclusiveMinimum" in node else None)
    high = node.get("maximum", node.get("exclusiveMaximum", 0) - 1 if "exclusiveMaximum" in node else None)
    if low is None or high is None or not 0 <= high - low < WIDEST_ENUM:
        return node
    return {**node, "enum": list(range(int(low), int(high) + 1))}
