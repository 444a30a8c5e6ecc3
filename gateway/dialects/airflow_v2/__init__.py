"""Airflow 3: its stable REST API, `/api/v2`, and the token endpoint beside it."""

from gateway.dialects import Dialect
from gateway.dialects.airflow_v2.errors import envelope
from gateway.dialects.airflow_v2.routes import handlers

dialect = Dialect(
    name="airflow_v2",
    title="Apache Airflow 3",
    handlers=handlers,
    envelopes={"/api/v2": envelope, "/auth/token": envelope},
    open_routes={
        "GET /api/v2/version": "Airflow tells its version to everyone; so clients find out what they speak to",
        "GET /api/v2/monitor/health": "Airflow's is open, for load balancers; it says what fares how, never why",
        "POST /auth/token": "the body holds the key",
        "POST /auth/token/cli": "the body holds the key",
    },
)
