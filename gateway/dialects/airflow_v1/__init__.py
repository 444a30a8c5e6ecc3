"""Airflow 2: its stable REST API, `/api/v1`."""

from gateway.dialects import Dialect
from gateway.dialects.airflow_v1.errors import envelope
from gateway.dialects.airflow_v1.routes import handlers

dialect = Dialect(
    name="airflow_v1",
    title="Apache Airflow 2",
    handlers=handlers,
    envelopes={"/api/v1": envelope},
    open_routes={
        "GET /api/v1/version": "Airflow tells its version to everyone; so clients find out what they speak to",
        "GET /api/v1/health": "Airflow's is open, for load balancers; it says what fares how, never why",
    },
)
