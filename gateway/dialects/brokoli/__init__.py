"""Brokoli: its Runs API, as its documents describe it and its server answers."""

from gateway.dialects import Dialect
from gateway.dialects.brokoli.errors import envelope
from gateway.dialects.brokoli.routes import handlers
from gateway.errors import problem_json

dialect = Dialect(
    name="brokoli",
    title="Brokoli",
    handlers=handlers,
    envelopes={
        "/api/pipelines": envelope,
        "/api/runs": envelope,
        "/api/lineage": envelope,
        "/api/scheduler": envelope,
        "/api/dashboard": envelope,
        "/api/search": envelope,
        "/api/system": envelope,
        "/api/ws": envelope,
        "/health": envelope,
        "/health/live": problem_json,  # these two are ours
        "/health/ready": problem_json,
    },
    open_routes={
        "GET /health": "it says whether the gateway is ready, and nothing else",
        "POST /api/pipelines/{pipeline_id}/webhook": "the schedule's token is the key",
    },
)
