"""Programs and libraries of others push to a running gateway: what they really send is taken, once.

Each test needs its program and is skipped without it: `apt install prometheus-alertmanager docker-registry`; LocalStack
4 in a virtual environment whose Python LOCALSTACK_PYTHON names; and `npm install cloudevents` where NODE_PATH leads.
"""

import asyncio
import contextlib
import datetime as dt
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cloudevents.core.bindings.http import (
    HTTPMessage,
    to_binary_event,
    to_structured_event,
)
from cloudevents.core.v1.event import CloudEvent
from cloudevents.v1.conversion import to_binary as to_older_binary
from cloudevents.v1.http import CloudEvent as OlderCloudEvent

from tests.system import Json, Penstock, free_port
from tests.waiting import eventually

ALERTMANAGER = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
REGISTRY = shutil.which("docker-registry")
LOCALSTACK = os.environ.get("LOCALSTACK_PYTHON")
NODE = shutil.which("node")
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


@contextlib.asynccontextmanager
async def started(
    command: list[str], directory: Path, ready_url: str, **environ: str
) -> AsyncIterator[httpx.AsyncClient]:
    """Run a program until it answers, and end it afterwards."""
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(  # noqa: ASYNC220 (it returns at once)
            command, cwd=directory, env=os.environ | environ, stdout=log, stderr=log, start_new_session=True
        )

    async def is_ready() -> bool:
        assert process.poll() is None, (directory / "log").read_text(errors="replace")
        with contextlib.suppress(httpx.TransportError):
            return (await client.get(ready_url)).status_code == 200
        return False

    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        try:
            await eventually(is_ready, timeout=60)
            yield client
        finally:
            process.terminate()
            await asyncio.to_thread(process.wait, 30)


async def runs_of(penstock: Penstock, hook: str, count: int) -> list[Json]:
    """Wait until a schedule has so many runs, and read them, the oldest first."""
    schedule = hook.split("/hooks/")[1].partition("/")[0]

    async def enough() -> list[Json] | None:
        answer = await penstock.client.get("/v1/runs", params={"schedule_id": schedule})
        items: list[Json] = answer.json()["items"]
        return items if len(items) >= count else None

    found: list[Json] = await eventually(enough, timeout=30)
    return [await penstock.run(run["id"]) for run in reversed(found)]


@pytest.mark.skipif(not ALERTMANAGER, reason="prometheus-alertmanager is not installed")
async def test_alertmanager_pushes_and_each_state_of_an_alert_is_one_run(shared: Penstock, tmp_path: Path) -> None:
    hook = await shared.hook(source="alertmanager", source_config={"secrets": ["alert secret"]}, split=True)
    receiver = {"url": hook, "http_config": {"authorization": {"credentials": "alert secret"}}}
    route = {"receiver": "penstock", "group_wait": "0s", "group_interval": "1s", "group_by": ["alertname"]}
    config = {"route": route, "receivers": [{"name": "penstock", "webhook_configs": [receiver]}]}
    (tmp_path / "alertmanager.yml").write_text(json.dumps(config))
    url = f"http://127.0.0.1:{free_port()}"
    command = [str(ALERTMANAGER), "--config.file=alertmanager.yml", "--storage.path=data"]
    command += [f"--web.listen-address={url.removeprefix('http://')}", "--cluster.listen-address="]

    def alert(instance: str, **more: str) -> Json:
        return {"labels": {"alertname": "DiskFull", "instance": instance}, "annotations": {}, **more}

    async with started(command, tmp_path, f"{url}/-/ready") as client:
        await client.post(f"{url}/api/v2/alerts", json=[alert("db-1")])
        await runs_of(shared, hook, 1)
        await client.post(f"{url}/api/v2/alerts", json=[alert("db-2")])
        await runs_of(shared, hook, 2)
        past = dt.datetime.now(dt.UTC).isoformat()
        await client.post(f"{url}/api/v2/alerts", json=[alert("db-1", endsAt=past), alert("db-2", endsAt=past)])
        runs = await runs_of(shared, hook, 4)

    states = [(run["event_variables"]["labels"]["instance"], run["event_variables"]["status"]) for run in runs]
    assert states[:2] == [("db-1", "firing"), ("db-2", "firing")]
    assert sorted(states[2:]) == [("db-1", "resolved"), ("db-2", "resolved")]


@pytest.mark.skipif(not REGISTRY, reason="docker-registry is not installed")
async def test_a_docker_registry_pushes_its_events_and_nothing_holds_its_queue_up(
    shared: Penstock, tmp_path: Path
) -> None:
    hook = await shared.hook(source="docker_registry", source_config={"secrets": ["registry secret"]})
    address = f"127.0.0.1:{free_port()}"
    endpoint = {
        "name": "penstock",
        "url": hook,
        "headers": {"Authorization": ["Bearer registry secret"]},
        "timeout": "5s",
        "threshold": 5,
        "backoff": "1s",
    }
    config = {
        "version": 0.1,
        "storage": {"filesystem": {"rootdirectory": str(tmp_path / "data")}},
        "http": {"addr": address},
        "notifications": {"endpoints": [endpoint]},
    }
    (tmp_path / "registry.yml").write_text(json.dumps(config))
    repository = f"http://{address}/v2/octo/app"
    async with started([str(REGISTRY), "serve", "registry.yml"], tmp_path, f"http://{address}/v2/") as client:
        await push_image(client, repository)
        runs = await runs_of(shared, hook, 3)

    events = [run["event_variables"]["events"][0] for run in runs]
    assert [event["action"] for event in events] == ["push"] * 3
    assert [event["target"].get("tag") for event in events] == [None, None, "latest"]


async def push_image(client: httpx.AsyncClient, repository: str) -> None:
    """Do what `docker push` does."""
    blobs = []
    for content in (b'{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers"}}', b"layer"):
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        upload = (await client.post(f"{repository}/blobs/uploads/")).headers["location"]
        put = await client.put(httpx.URL(upload).copy_add_param("digest", digest), content=content)
        assert put.status_code == 201, put.text
        blobs.append({"mediaType": "application/octet-stream", "digest": digest, "size": len(content)})
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": blobs[0], "layers": blobs[1:]}
    put = await client.put(
        f"{repository}/manifests/latest", content=json.dumps(manifest), headers={"content-type": MANIFEST}
    )
    assert put.status_code == 201, put.text


class LocalStack:
    """SNS, S3 and EventBridge on this machine."""

    def __init__(self, client: httpx.AsyncClient, url: str) -> None:
        self._client = client
        self.url = url

    async def sns(self, action: str, **parameters: str) -> str:
        """Call SNS, and return its answer."""
        answer = await self._send("sns", "POST", "/", data={"Action": action, "Version": "2010-03-31"} | parameters)
        return answer.text

    async def s3(self, path: str, content: bytes = b"") -> None:
        await self._send("s3", "PUT", path, content=content)

    async def events(self, action: str, parameters: Json) -> Json:
        """Call EventBridge."""
        headers = {"x-amz-target": f"AWSEvents.{action}", "content-type": "application/x-amz-json-1.1"}
        answer: Json = (
            await self._send("events", "POST", "/", headers, content=json.dumps(parameters).encode())
        ).json()
        return answer

    async def _send(
        self, service: str, method: str, path: str, headers: dict[str, str] | None = None, **content: Any
    ) -> httpx.Response:
        credential = f"Credential=test/20260102/us-east-1/{service}/aws4_request"
        signed = f"AWS4-HMAC-SHA256 {credential}, SignedHeaders=host, Signature=0"
        answer = await self._client.request(
            method, self.url + path, headers={"authorization": signed} | (headers or {}), **content
        )
        assert answer.is_success, answer.text
        return answer


@contextlib.asynccontextmanager
async def localstack(directory: Path) -> AsyncIterator[LocalStack]:
    """Run LocalStack without a container."""
    address = f"127.0.0.1:{free_port()}"
    environ = {
        "GATEWAY_LISTEN": address,
        "LOCALSTACK_HOST": address,
        "SERVICES": "s3,sns,events,secretsmanager",
        "FILESYSTEM_ROOT": str(directory / "root"),
        "SKIP_SSL_CERT_DOWNLOAD": "1",
        "DISABLE_EVENTS": "1",
    }
    command = [str(LOCALSTACK), "-m", "localstack.runtime.main"]
    async with started(command, directory, f"http://{address}/_localstack/health", **environ) as client:
        yield LocalStack(client, f"http://{address}")


NOTIFY_TOPIC = """<NotificationConfiguration><TopicConfiguration><Topic>{}</Topic><Event>s3:ObjectCreated:*</Event>
</TopicConfiguration><EventBridgeConfiguration/></NotificationConfiguration>"""


@pytest.mark.skipif(not LOCALSTACK, reason="LOCALSTACK_PYTHON does not name a Python that has LocalStack")
async def test_localstack_signs_for_sns_and_tells_of_objects_in_s3(shared: Penstock, tmp_path: Path) -> None:
    async with localstack(tmp_path) as aws:
        topic = arn_in(await aws.sns("CreateTopic", Name="incoming"))
        config = {"certificate_hosts": [aws.url.removeprefix("http://")], "topics": [topic]}
        hook = await shared.hook(source="sns", source_config=config, split=True)
        for version in ("1", "2"):
            await aws.sns(
                "SetTopicAttributes", TopicArn=topic, AttributeName="SignatureVersion", AttributeValue=version
            )
            endpoint = {"Protocol": "http", "Endpoint": hook, "ReturnSubscriptionArn": "true"}
            subscription = arn_in(await aws.sns("Subscribe", TopicArn=topic, **endpoint))
            await confirmed(aws, subscription)
            await aws.sns("Publish", TopicArn=topic, Message=json.dumps({"version": version}), Subject="Grüße")
            await runs_of(shared, hook, int(version))
            if version == "1":
                await aws.sns("Unsubscribe", SubscriptionArn=subscription)
        await aws.s3("/incoming-bucket")
        await aws.s3("/incoming-bucket?notification", NOTIFY_TOPIC.format(topic).encode())
        await aws.s3("/incoming-bucket/2026/red%20flower%2Bb%C3%BCro.csv", b"a,b\n")
        runs = await runs_of(shared, hook, 3)

    assert [run["event_variables"] for run in runs[:2]] == [{"version": "1"}, {"version": "2"}]
    assert runs[2]["event_variables"]["s3"]["object"]["decodedKey"] == "2026/red flower+büro.csv"
    schedule = hook.split("/hooks/")[1].partition("/")[0]
    events = (await shared.client.get("/v1/events", params={"schedule_id": schedule})).json()["items"]
    handshakes = [event["event_type"] for event in reversed(events) if event["verdict"] == "handshake"]
    assert handshakes == [
        "SubscriptionConfirmation",
        "UnsubscribeConfirmation",
        "SubscriptionConfirmation",
        "s3:TestEvent",
    ]


async def confirmed(aws: LocalStack, subscription: str) -> None:
    """Wait until somebody has visited the SubscribeURL."""

    async def is_confirmed() -> bool:
        attributes = await aws.sns("GetSubscriptionAttributes", SubscriptionArn=subscription)
        return "false" in attributes.partition("<key>PendingConfirmation</key>")[2].partition("</entry>")[0]

    await eventually(is_confirmed, timeout=20)


def arn_in(answer: str) -> str:
    return answer.partition("Arn>")[2].partition("<")[0]


@pytest.mark.skipif(not LOCALSTACK, reason="LOCALSTACK_PYTHON does not name a Python that has LocalStack")
async def test_localstacks_eventbridge_calls_an_api_destination(shared: Penstock, tmp_path: Path) -> None:
    hook = await shared.hook(source="eventbridge", source_config={"secrets": ["bridge secret"]})
    async with localstack(tmp_path) as aws:
        key = {"ApiKeyAuthParameters": {"ApiKeyName": "X-Api-Key", "ApiKeyValue": "bridge secret"}}
        connection = await aws.events(
            "CreateConnection", {"Name": "penstock", "AuthorizationType": "API_KEY", "AuthParameters": key}
        )
        target = {"Name": "penstock", "InvocationEndpoint": hook, "HttpMethod": "POST"}
        destination = await aws.events("CreateApiDestination", target | {"ConnectionArn": connection["ConnectionArn"]})
        await aws.events("PutRule", {"Name": "orders", "EventPattern": json.dumps({"source": ["shop"]})})
        await aws.events(
            "PutTargets", {"Rule": "orders", "Targets": [{"Id": "1", "Arn": destination["ApiDestinationArn"]}]}
        )
        event = {"Source": "shop", "DetailType": "order paid", "Detail": json.dumps({"order": 4711})}
        await aws.events("PutEvents", {"Entries": [event]})
        [run] = await runs_of(shared, hook, 1)

    assert (run["event_variables"]["detail-type"], run["event_variables"]["detail"]) == ("order paid", {"order": 4711})


SUBJECT = 'büro 100% "fertig"'
ATTRIBUTES: dict[str, Any] = {
    "specversion": "1.0",
    "type": "com.example.object.created",
    "source": "/storage/incoming",
    "subject": SUBJECT,
    "time": dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC),
    "datacontenttype": "application/json",
}
OLDER: dict[str, Any] = ATTRIBUTES | {"time": "2026-01-02T03:04:05Z"}


def python_messages() -> dict[str, HTTPMessage]:
    """Write events with the official library, of both its generations and in both of its modes."""
    binary = to_binary_event(CloudEvent(ATTRIBUTES | {"id": "binary"}, {"order": 4711}))
    structured = to_structured_event(CloudEvent(ATTRIBUTES | {"id": "structured"}, {"order": 4711}))
    headers, body = to_older_binary(OlderCloudEvent(OLDER | {"id": "older"}, {"order": 4711}))
    return {"binary": binary, "structured": structured, "older": HTTPMessage(dict(headers), body)}


@pytest.mark.parametrize("name", ["binary", "structured", "older"])
async def test_what_the_python_library_sends_is_read(shared: Penstock, name: str) -> None:
    message = python_messages()[name]
    hook = await shared.hook(source="cloudevents", split=True)
    headers = [(key.encode(), value.encode("latin-1")) for key, value in message.headers.items()]
    async with httpx.AsyncClient(trust_env=False) as sender:
        first = await sender.post(hook, content=message.body, headers=headers)
        again = await sender.post(hook, content=message.body, headers=headers)

    assert (first.status_code, again.status_code) == (202, 200)
    event = (await shared.run(first.json()["runs"][0]["id"]))["event_variables"]
    assert event == ATTRIBUTES | {"id": name, "time": "2026-01-02T03:04:05Z", "data": {"order": 4711}}


SEND_WITH_NODE = """
const { CloudEvent, HTTP } = require("cloudevents");
const http = require("http");
const [url, attributes] = [process.argv[1], JSON.parse(process.argv[2])];
const send = (message) => new Promise((done, fail) => {
  const request = http.request(url, { method: "POST", headers: message.headers }, (answer) => {
    answer.resume();
    answer.on("end", () => done(answer.statusCode));
  });
  request.on("error", fail);
  request.end(message.body);
});
(async () => {
  const statuses = [];
  const order = { order: 4711 }, bytes = Uint8Array.of(123, 125);
  for (const [mode, data] of [["binary", order], ["structured", order], ["structured", bytes]]) {
    const event = new CloudEvent({ ...attributes, id: mode + statuses.length, data });
    statuses.push(await send(HTTP[mode](event)));
  }
  console.log(JSON.stringify(statuses));
})();
"""


def node_knows_cloudevents() -> bool:
    if NODE is None:
        return False
    return subprocess.run([NODE, "-e", "require.resolve('cloudevents')"], capture_output=True).returncode == 0


@pytest.mark.skipif(not node_knows_cloudevents(), reason="node does not find the package cloudevents")
async def test_what_the_javascript_library_sends_is_read(shared: Penstock) -> None:
    hook = await shared.hook(source="cloudevents", split=True)
    command = [str(NODE), "-e", SEND_WITH_NODE, hook, json.dumps(OLDER)]
    sent = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=30)
    runs = await runs_of(shared, hook, 3)

    assert json.loads(sent.stdout) == [202, 202, 202], sent.stderr
    events = [run["event_variables"] for run in runs]
    assert [event["data"] for event in events] == [{"order": 4711}, {"order": 4711}, {}]
    assert [event["subject"] for event in events] == [SUBJECT] * 3
