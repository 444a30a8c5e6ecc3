"""Mage: its pipeline schedules, their triggers by token, and its pipeline runs, as its server answers them."""

from gateway.dialects import Dialect
from gateway.dialects.mage.errors import envelopes, envelopes_under
from gateway.dialects.mage.routes import handlers

_TOKEN = "the schedule's token is the key"  # noqa: S105 - a reason
dialect = Dialect(
    name="mage",
    title="Mage",
    handlers=handlers,
    envelopes=envelopes,
    envelopes_under=envelopes_under,
    open_routes={
        "POST /api/pipeline_schedules/{schedule}/pipeline_runs/{token}": _TOKEN,
        "POST /api/pipeline_schedules/{schedule}/api_trigger": _TOKEN,
        "POST /api/runs": _TOKEN,
        "POST /api/runs/{token}": _TOKEN,
        "POST /api/events": _TOKEN,
        "POST /api/sessions": "the body holds the key",
    },
)
