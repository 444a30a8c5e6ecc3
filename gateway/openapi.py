"""`/openapi.json`: what Litestar derives from the handlers, and what only we know of them.

Handlers read bodies and query strings themselves (a wrong one must be a clear 4xx), so they say in `opt` what they
take: `body` is a Struct, `query` the names of parameters, `answers` a Struct by status code.
"""

from functools import cache
from importlib.metadata import version
from typing import Any, get_args

import msgspec
from litestar import Litestar, Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.spec import Components, SecurityScheme

from gateway.handling import AnyRequest

CONFIG = OpenAPIConfig(
    title="Penstock",
    version=version("penstock"),
    description="Deliveries in, runs out. Errors are RFC 9457 problem details.",
    components=Components(
        security_schemes={
            "key": SecurityScheme(type="http", scheme="bearer", description="An API key: psk_..."),
        }
    ),
    security=[{"key": []}],
    render_plugins=[],
    use_handler_docstrings=True,
)
_REFERENCE = "#/components/schemas/{name}"
_PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"pointer": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
}


@get("/openapi.json", include_in_schema=False)
async def openapi_json(request: AnyRequest) -> Response[bytes]:
    """Describe the API (OpenAPI 3.1)."""
    return Response(document(request.app), media_type="application/json")


@cache
def document(app: Litestar) -> bytes:
    """Build the document once for an application."""
    described = app.openapi_schema.to_schema()
    schemas = described["components"]["schemas"]
    schemas["Problem"] = _PROBLEM
    for handler in (handler for route in app.routes for handler in getattr(route, "route_handlers", ())):
        for path in handler.paths:
            for method in handler.http_methods:
                if operation := described["paths"].get(_plain(path), {}).get(method.lower()):
                    _complete(operation, handler, schemas)
    return msgspec.json.encode(described)


def _complete(operation: dict[str, Any], handler: HTTPRouteHandler, schemas: dict[str, Any]) -> None:
    responses = operation["responses"]
    responses.pop("400", None)
    responses["default"] = {
        "description": "What went wrong",
        "content": {"application/problem+json": {"schema": {"$ref": _REFERENCE.format(name="Problem")}}},
    }
    if not handler.guards:
        operation["security"] = []
    for name in handler.opt.get("query", ()):
        operation.setdefault("parameters", []).append({"name": name, "in": "query", "schema": {"type": "string"}})
    if body := handler.opt.get("body"):
        operation["requestBody"] = _content(body, schemas)
    if answers := handler.opt.get("answers"):
        responses.pop("201", None)
        for status, (struct, meaning) in answers.items():
            responses[str(status)] = {"description": meaning} | _content(struct, schemas)


def _content(struct: Any, schemas: dict[str, Any]) -> dict[str, Any]:
    references, components = msgspec.json.schema_components(get_args(struct) or [struct], ref_template=_REFERENCE)
    schemas.update(components)
    shape = references[0] if len(references) == 1 else {"anyOf": list(references)}
    return {"content": {"application/json": {"schema": shape}}}


def _plain(path: str) -> str:
    return path.replace(":str}", "}")
