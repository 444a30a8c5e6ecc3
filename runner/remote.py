"""Work that is done elsewhere: what a block returns when another system shall do it and call back."""

from typing import Any, Literal
from urllib.parse import quote

import msgspec

System = Literal["any", "penstock", "airflow"]


class Remote(msgspec.Struct, frozen=True):
    """Return this from a block: Penstock sends the request, and the block goes on when the answer is called back.

        return Remote("https://reports.example.org/build", json={"month": "2026-03"})

    The request is a POST of `json`, into which the callback URL is put as `callback_field` (dots lead deeper; None
    leaves it to the header `X-Penstock-Callback`, which is always there). Whoever POSTs JSON to that URL gives the
    block its output; `{"state": "failed"}` fails it. `timeout` is in seconds from when the request was taken. While
    it waits, the block occupies no block host. The request carries `Idempotency-Key`, the same when it has to be sent
    again.
    """

    url: str
    json: Any = None
    headers: dict[str, str] = {}
    timeout: float = 3600.0
    callback_field: str | None = "callback_url"
    key_field: str | None = None
    system: System = "any"

    @classmethod
    def penstock(
        cls,
        url: str,
        pipeline: str,
        *,
        variables: dict[str, Any] | None = None,
        key: str,
        timeout: float = 3600.0,
    ) -> "Remote":
        """Run a pipeline of another Penstock at `url` with the API key `key`; the output tells of that run."""
        return cls(
            f"{url.rstrip('/')}/v1/pipelines/{quote(pipeline, safe='')}/runs",
            {"variables": variables or {}},
            {"authorization": f"Bearer {key}"},
            timeout,
            "callback_url",
            "run_key",
            "penstock",
        )

    @classmethod
    def airflow(
        cls,
        url: str,
        dag: str,
        *,
        conf: dict[str, Any] | None = None,
        token: str,
        timeout: float = 3600.0,
    ) -> "Remote":
        """Run a DAG of an Airflow (API v2) at `url` with a JWT; the DAG calls back `dag_run.conf["callback_url"]`."""
        return cls(
            f"{url.rstrip('/')}/api/v2/dags/{quote(dag, safe='')}/dagRuns",
            {"conf": conf or {}, "logical_date": None},
            {"authorization": f"Bearer {token}"},
            timeout,
            "conf.callback_url",
            "dag_run_id",
            "airflow",
        )
