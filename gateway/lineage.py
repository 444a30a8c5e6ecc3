"""Drawing what leads to what, out of what the store knows. Pure functions, no I/O.

Nodes are named `type:id`; a dataset is whatever word blocks declare in `reads` and `writes`.
"""

import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from schemas.overviews import Edge, Lineage, Node, RelatedRun, Starter
from schemas.pipelines import Graph
from schemas.states import Origin

_VERBS: dict[Origin, Literal["triggers", "resumes", "reruns", "replays"]] = {
    Origin.RUN: "triggers",
    Origin.RESUME: "resumes",
    Origin.RERUN: "reruns",
    Origin.REPLAY: "replays",
}


def of_pipelines(
    graphs: Mapping[str, Graph | None], starters: Sequence[Starter], triggers: Iterable[tuple[str, str]]
) -> Lineage:
    """Draw schedules, pipelines with their blocks, the datasets of these, and which pipelines trigger which."""
    nodes: dict[str, Node] = {}
    edges: set[Edge] = set()
    for pipeline_id, graph in graphs.items():
        pipeline = f"pipeline:{pipeline_id}"
        nodes[pipeline] = Node(id=pipeline, type="pipeline", name=pipeline_id)
        for block in graph.blocks if graph else ():
            name = f"block:{pipeline_id}/{block.id}"
            nodes[name] = Node(id=name, type="block", name=block.id, pipeline_id=pipeline_id)
            edges.add(Edge(pipeline, name, "runs"))
            edges |= {Edge(f"dataset:{dataset}", name, "reads") for dataset in block.reads}
            edges |= {Edge(name, f"dataset:{dataset}", "writes") for dataset in block.writes}
            for dataset in (*block.reads, *block.writes):
                nodes[f"dataset:{dataset}"] = Node(id=f"dataset:{dataset}", type="dataset", name=dataset)
    for starter in starters:
        name = f"schedule:{starter.id}"
        nodes[name] = Node(id=name, type="schedule", name=starter.name, pipeline_id=starter.pipeline_id)
        edges.add(Edge(name, f"pipeline:{starter.pipeline_id}", "starts"))
    edges |= {Edge(f"pipeline:{cause}", f"pipeline:{made}", "triggers") for cause, made in triggers}
    return _drawn(nodes, edges)


def connected_to(pipeline_id: str, whole: Lineage) -> Lineage:
    """Keep what hangs together with one pipeline, in whichever direction."""
    beside: dict[str, set[str]] = defaultdict(set)
    for edge in whole.edges:
        beside[edge.source].add(edge.target)
        beside[edge.target].add(edge.source)
    reached = {f"pipeline:{pipeline_id}"}
    waiting = list(reached)
    while waiting:
        found = beside[waiting.pop()] - reached
        reached |= found
        waiting += found
    nodes = [node for node in whole.nodes if node.id in reached]
    return Lineage(nodes, [edge for edge in whole.edges if edge.source in reached], whole.is_complete)


def of_runs(found: Iterable[RelatedRun], *, is_complete: bool) -> Lineage:
    """Draw runs, the events that some of them came from, and which run came of which."""
    runs = {run.id: run for run in found}
    nodes = {f"run:{run.id}": _run(run) for run in runs.values()}
    edges: set[Edge] = set()
    for run in runs.values():
        if run.event_id is not None and run.parent_id not in runs:
            nodes[f"event:{run.event_id}"] = _event(run.event_id)
            edges.add(Edge(f"event:{run.event_id}", f"run:{run.id}", "starts"))
        if run.parent_id in runs:
            edges.add(Edge(f"run:{run.parent_id}", f"run:{run.id}", _VERBS.get(run.origin, "triggers")))
    return _drawn(nodes, edges, is_complete=is_complete)


def _run(run: RelatedRun) -> Node:
    return Node(
        id=f"run:{run.id}",
        type="run",
        name=f"#{run.number}",
        pipeline_id=run.pipeline_id,
        state=run.state,
        origin=run.origin,
        created_at=run.created_at,
    )


def _event(event_id: uuid.UUID) -> Node:
    return Node(id=f"event:{event_id}", type="event", name=str(event_id))


def _drawn(nodes: Mapping[str, Node], edges: set[Edge], *, is_complete: bool = True) -> Lineage:
    """Put everything in order, without arrows to what is not there."""
    kept = sorted(edge for edge in edges if edge.source in nodes and edge.target in nodes)
    return Lineage(sorted(nodes.values(), key=lambda node: (node.type, node.id)), kept, is_complete)
