"""What the OpenAPI document says beyond what the views say themselves."""

from typing import Any

from mailer_project.problems import CONTENT_TYPE

_PROBLEM = {
    "type": "object",
    "description": "RFC 9457",
    "required": ["type", "title", "status", "detail", "code", "errors"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "message", "code"],
                "properties": {
                    "field": {"type": ["string", "null"]},
                    "message": {"type": "string"},
                    "code": {"type": "string"},
                },
            },
        },
        "from": {"type": "string", "description": "409: the campaign's status"},
        "to": {"type": "string", "description": "409: the status asked for"},
    },
}
_REFUSED = {
    "description": "The request is refused; the problem says why.",
    "content": {CONTENT_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
}


def one_version(endpoints: list[tuple[Any, ...]], **kwargs: Any) -> list[tuple[Any, ...]]:
    """Keep /api/v1/ and leave its alias /api/ out."""
    return [endpoint for endpoint in endpoints if endpoint[0].startswith("/api/v1/")]


def with_problems(result: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
    """Add the refusals, the same for every operation."""
    result["components"]["schemas"]["Problem"] = _PROBLEM
    for operations in result["paths"].values():
        for operation in operations.values():
            operation["responses"]["4XX"] = _REFUSED
    return result
