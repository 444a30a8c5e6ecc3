"""Answers that say what went wrong."""

import httpx


def problem(answer: httpx.Response, status: int, code: str) -> str:
    """Check that an answer is problem+json (RFC 9457) and give its detail."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    body = answer.json()
    assert (body["type"], body["status"]) == (f"/problems/{code}", status)
    return str(body["detail"])
