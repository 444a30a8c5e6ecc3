"""React to pushes: GitHub signs the delivery, Penstock verifies it, this summarises what was pushed.

Create the schedule with source `github` and the secret that you set in GitHub, and paste the token's URL there.
"""

from typing import Any

import msgspec

from runner import Run, pipeline


class Params(msgspec.Struct):
    """What a schedule may set."""

    main_branch: str = "main"


github_push = pipeline("github_push", params=Params)


@github_push.block
def commits(run: Run[Params]) -> list[dict[str, Any]]:
    """Take from the payload what the other blocks need."""
    push = run.event_variables
    run.log.info("push received", repository=push["repository"]["full_name"], ref=push["ref"])
    return [
        {"id": commit["id"][:7], "author": commit["author"]["name"], "title": commit["message"].split("\n")[0]}
        for commit in push["commits"]
    ]


@github_push.block
def authors(commits: list[dict[str, Any]]) -> dict[str, int]:
    """Count commits by author; runs beside `changelog`."""
    names = [commit["author"] for commit in commits]
    return {name: names.count(name) for name in sorted(set(names))}


@github_push.block
def changelog(commits: list[dict[str, Any]]) -> list[str]:
    """Write a line for each commit."""
    return [f"{commit['id']} {commit['title']} ({commit['author']})" for commit in commits]


@github_push.block(retries=2, timeout=30)
async def announce(run: Run[Params], changelog: list[str], authors: dict[str, int]) -> dict[str, Any]:
    """Tell the team; a retry has the same idempotency key, so that nobody is told twice."""
    is_release = run.event_variables["ref"] == f"refs/heads/{run.params.main_branch}"
    for line in changelog:
        print(line)
    run.log.info("announced", commits=len(changelog), authors=len(authors), key=run.idempotency_key)
    return {"is_release": is_release, "commits": len(changelog), "authors": authors}
