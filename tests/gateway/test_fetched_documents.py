"""What verification needs is fetched once, kept within bounds, and only from where it may come."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from structlog.testing import capture_logs

from gateway import documents
from gateway.documents import KEEP_S, MOST_DOCUMENTS, REFETCH_S, RETRY_S, STALE_S, Documents
from schemas.errors import BadSignature, Unavailable
from schemas.schedules import SourceConfig
from tests.receivers import Received, Receiver, Reply


class Clock:
    """A clock that is set by hand; an hour has passed since it began."""

    def __init__(self) -> None:
        self.now = 3600.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def fetcher(clock: Clock) -> AsyncIterator[Documents]:
    found = Documents(clock=clock)
    yield found
    await found.close()


def trusting(server: Receiver) -> SourceConfig:
    return SourceConfig(certificate_hosts=(server.url.removeprefix("http://"),))


def page(_request: Received) -> Reply:
    return Reply(200, body=b'{"keys": [{"kid": "first"}]}')


async def refused(attempt: Awaitable[object]) -> Unavailable:
    with pytest.raises(Unavailable) as caught:
        await attempt
    return caught.value


async def test_a_document_is_fetched_once_and_kept(fetcher: Documents) -> None:
    async with Receiver(page) as server:
        first = await fetcher.fetch([f"{server.url}/a.pem"], trusting(server))
        second = await fetcher.fetch([f"{server.url}/a.pem", f"{server.url}/b.pem"], trusting(server))

        assert first == {f"{server.url}/a.pem": b'{"keys": [{"kid": "first"}]}'}
        assert second == {**first, f"{server.url}/b.pem": b'{"keys": [{"kid": "first"}]}'}
        assert [(request.method, request.path) for request in server.received] == [("GET", "/a.pem"), ("GET", "/b.pem")]


async def test_many_who_want_it_at_once_wait_for_one_fetch(fetcher: Documents) -> None:
    async with Receiver(lambda _: Reply(200, body=b"certificate", hang=0.1)) as server:
        found = await asyncio.gather(*(fetcher.fetch([f"{server.url}/a.pem"], trusting(server)) for _ in range(50)))

        assert found == [{f"{server.url}/a.pem": b"certificate"}] * 50
        assert len(server.received) == 1


async def test_who_gives_up_waiting_takes_nothing_from_the_others(fetcher: Documents) -> None:
    async with Receiver(lambda _: Reply(200, body=b"certificate", hang=0.2)) as server:
        first = asyncio.create_task(_fetch(fetcher, server))
        second = asyncio.create_task(_fetch(fetcher, server))
        await server.got(1)
        first.cancel()

        assert await second == {f"{server.url}/a.pem": b"certificate"}
        assert len(server.received) == 1


async def _fetch(fetcher: Documents, server: Receiver, path: str = "/a.pem") -> dict[str, bytes]:
    return dict(await fetcher.fetch([server.url + path], trusting(server)))


async def test_after_an_hour_it_is_fetched_anew(fetcher: Documents, clock: Clock) -> None:
    async with Receiver() as server:
        server.replies = [Reply(200, body=b"old"), Reply(200, body=b"new")]
        assert await _fetch(fetcher, server) == {f"{server.url}/a.pem": b"old"}
        clock.now += KEEP_S - 1
        assert await _fetch(fetcher, server) == {f"{server.url}/a.pem": b"old"}
        clock.now += 1
        assert await _fetch(fetcher, server) == {f"{server.url}/a.pem": b"new"}


async def test_an_old_one_does_for_a_day_when_no_new_one_comes(fetcher: Documents, clock: Clock) -> None:
    async with Receiver() as server:
        server.replies = [Reply(200, body=b"old"), *[Reply(500)] * 9]
        await _fetch(fetcher, server)
        clock.now += STALE_S - 1
        assert await _fetch(fetcher, server) == {f"{server.url}/a.pem": b"old"}
        clock.now += RETRY_S + 1
        await refused(_fetch(fetcher, server))


async def test_a_key_that_is_not_in_its_set_has_it_fetched_anew_but_not_all_the_time(
    fetcher: Documents, clock: Clock
) -> None:
    async with Receiver() as server:
        server.replies = [page(Received("", "", {}, b"")), Reply(200, body=b'{"keys": [{"kid": "second"}]}')]
        keys = f"{server.url}/keys"
        assert await _fetch(fetcher, server, "/keys#first") == {keys: b'{"keys": [{"kid": "first"}]}'}
        clock.now += REFETCH_S - 1
        assert await _fetch(fetcher, server, "/keys#second") == {keys: b'{"keys": [{"kid": "first"}]}'}
        clock.now += 1
        assert await _fetch(fetcher, server, "/keys#second") == {keys: b'{"keys": [{"kid": "second"}]}'}
        assert [request.path for request in server.received] == ["/keys", "/keys"]


async def test_a_set_without_the_key_will_not_do_when_a_new_one_cannot_be_had(fetcher: Documents, clock: Clock) -> None:
    async with Receiver() as server:
        server.replies = [page(Received("", "", {}, b"")), *[Reply(503)] * 9]
        await _fetch(fetcher, server, "/keys#first")
        clock.now += REFETCH_S

        await refused(_fetch(fetcher, server, "/keys#second"))
        assert await _fetch(fetcher, server, "/keys#first") == {f"{server.url}/keys": b'{"keys": [{"kid": "first"}]}'}


@pytest.mark.parametrize("reply", [Reply(404), Reply(500), Reply(204), Reply(302, {"location": "/b.pem"})])
async def test_what_is_not_there_is_our_trouble_and_asked_for_again_only_after_a_while(
    fetcher: Documents, clock: Clock, reply: Reply
) -> None:
    async with Receiver() as server:
        server.replies = [reply, Reply(200, body=b"certificate")]
        error = await refused(_fetch(fetcher, server))
        assert (error.code, error.retry_after) == ("unavailable", RETRY_S)
        await refused(_fetch(fetcher, server))
        assert len(server.received) == 1

        clock.now += RETRY_S
        assert await _fetch(fetcher, server) == {f"{server.url}/a.pem": b"certificate"}


async def test_nobody_can_hold_us_up(fetcher: Documents, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "FETCH_S", 0.1)
    async with Receiver(lambda _: Reply(200, body=b"late", hang=5)) as server:
        async with asyncio.timeout(2):
            await refused(_fetch(fetcher, server))


async def test_a_document_without_end_is_not_read_to_it(fetcher: Documents) -> None:
    async with Receiver(lambda _: Reply(200, body=b"x" * (1 << 20))) as server:
        await refused(_fetch(fetcher, server))


async def test_nobody_listens_there(fetcher: Documents) -> None:
    await refused(fetcher.fetch(["http://127.0.0.1:1/a.pem"], SourceConfig(certificate_hosts=("127.0.0.1:1",))))


async def test_only_so_many_are_kept(fetcher: Documents) -> None:
    async with Receiver(page) as server:
        for number in range(MOST_DOCUMENTS + 1):
            await _fetch(fetcher, server, f"/{number}.pem")
            await _fetch(fetcher, server, "/0.pem")
        await _fetch(fetcher, server, "/1.pem")

        paths = [request.path for request in server.received]
        assert (paths.count("/0.pem"), paths.count("/1.pem"), len(paths)) == (1, 2, MOST_DOCUMENTS + 2)


@pytest.mark.parametrize("url", ["http://sns.eu-central-1.amazonaws.com/a.pem", "ftp://example.com/", "", "http://["])
async def test_nothing_is_fetched_without_tls_unless_the_schedule_names_the_host(fetcher: Documents, url: str) -> None:
    with pytest.raises(BadSignature):
        await fetcher.fetch([url], SourceConfig(certificate_hosts=("example.com",)))


@pytest.mark.parametrize("attempt", ["fetch", "visit"])
async def test_what_one_schedule_names_opens_nothing_for_another(fetcher: Documents, attempt: str) -> None:
    async with Receiver(page) as server:
        url, other = f"{server.url}/a.pem", SourceConfig(certificate_hosts=("example.com",))
        await fetcher.fetch([url], trusting(server))
        tried: dict[str, Callable[[], Awaitable[object]]] = {
            "fetch": lambda: fetcher.fetch([url], other),
            "visit": lambda: fetcher.visit(url, other),
        }
        with pytest.raises(BadSignature):
            await tried[attempt]()
        assert len(server.received) == 1


async def test_the_inside_is_closed_also_to_names_that_lead_there(fetcher: Documents) -> None:
    """With TLS, so not refused for its lack; the name is public, its address is this machine's."""
    connections: list[object] = []
    server = await asyncio.start_server(lambda _, writer: (connections.append(writer), writer.close()), "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        await refused(fetcher.fetch([f"https://localhost:{port}/a.pem"], SourceConfig()))
        assert connections == []
        named = SourceConfig(certificate_hosts=(f"localhost:{port}",))
        await refused(fetcher.fetch([f"https://localhost:{port}/a.pem"], named))
        assert len(connections) == 1


@pytest.mark.parametrize("host", ["10.0.0.1", "169.254.169.254", "192.168.0.1:8080", "0.0.0.0"])
async def test_a_schedule_may_name_this_machine_but_no_other_inside(fetcher: Documents, host: str) -> None:
    with capture_logs() as logs:
        await refused(fetcher.fetch([f"http://{host}/a.pem"], SourceConfig(certificate_hosts=(host,))))

    assert [(log["host"], "is not public" in log["reason"]) for log in logs] == [(host, True)]


async def test_the_set_of_keys_that_is_configured_may_be_on_this_machine(fetcher: Documents) -> None:
    async with Receiver(page) as server:
        config = SourceConfig(jwks_url=f"{server.url}/keys")

        assert await fetcher.fetch([f"{server.url}/keys#first"], config) == {
            f"{server.url}/keys": b'{"keys": [{"kid": "first"}]}'
        }
        with pytest.raises(BadSignature):
            await fetcher.fetch([f"{server.url}/other"], config)


async def test_a_visit_is_paid_each_time_and_must_be_welcome(fetcher: Documents) -> None:
    async with Receiver(lambda _: Reply(200, body=b"<ConfirmSubscriptionResponse/>")) as server:
        url = f"{server.url}/?Action=ConfirmSubscription&Token=abc"
        await fetcher.visit(url, trusting(server))
        await fetcher.visit(url, trusting(server))

        assert [(request.method, request.path) for request in server.received] == [
            ("GET", "/?Action=ConfirmSubscription&Token=abc")
        ] * 2


@pytest.mark.parametrize("status", [301, 302, 307, 400, 403, 500, 503])
async def test_a_visit_goes_nowhere_else_and_its_failure_is_told(fetcher: Documents, status: int) -> None:
    async with Receiver() as server, Receiver() as elsewhere:
        server.replies = [Reply(status, {"location": elsewhere.url})]
        await refused(fetcher.visit(f"{server.url}/?Action=ConfirmSubscription", trusting(server)))

        assert elsewhere.received == []


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/?Action=ConfirmSubscription",
        "http://sns.eu-central-1.amazonaws.com/",
        "http://169.254.169.254/",
        "",
    ],
)
async def test_only_sns_is_visited(fetcher: Documents, url: str) -> None:
    with pytest.raises(BadSignature):
        await fetcher.visit(url, SourceConfig())
