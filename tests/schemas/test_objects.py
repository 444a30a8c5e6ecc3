"""The object store in a folder: what is written is whole, keys are what they say, and a store that is away says so."""

from pathlib import Path

import pytest

from schemas.errors import NotFound, SettingsError, Unavailable
from schemas.objects import ObjectStore, store_place


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.glob("copy*")]


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return ObjectStore(str(tmp_path / "store"))


async def test_what_was_put_can_be_read_from_memory_and_into_a_file(store: ObjectStore, tmp_path: Path) -> None:
    content = bytes(range(256)) * 50_000
    (tmp_path / "large").write_bytes(content)

    await store.put("runs/1/small", b"small")
    await store.put_file("runs/1/large/0/1-1", tmp_path / "large")
    await store.get_to_file("runs/1/large/0/1-1", tmp_path / "copy")

    assert await store.get("runs/1/small") == b"small"
    assert (tmp_path / "copy").read_bytes() == content
    await store.put("runs/1/small", b"again")
    assert await store.get("runs/1/small") == b"again"


async def test_what_is_not_there_is_not_found_and_leaves_no_file(store: ObjectStore, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        await store.get("runs/1/nothing")
    with pytest.raises(NotFound):
        await store.get_to_file("runs/1/nothing", tmp_path / "copy")

    assert not names(tmp_path)


async def test_a_prefix_is_whole_segments_and_deleting_twice_is_no_error(store: ObjectStore) -> None:
    for key in ("runs/1/a", "runs/1/b/c", "runs/10/a"):
        await store.put(key, b"")

    await store.delete(["runs/1/a", "runs/1/nothing"])
    await store.delete_prefix("runs/1/")
    await store.delete_prefix("runs/1")

    assert await store.get("runs/10/a") == b""
    with pytest.raises(NotFound):
        await store.get("runs/1/b/c")
    for wrong in ("", "/", "runs/../..", "."):
        with pytest.raises(ValueError, match="is no prefix"):
            await store.delete_prefix(wrong)


async def test_a_store_that_is_away_says_so_and_comes_back(store: ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "store").write_text("not a folder")
    for attempt in (store.put("a", b""), store.get("a"), store.get_to_file("a", tmp_path / "copy")):
        with pytest.raises(Unavailable):
            await attempt

    (tmp_path / "store").unlink()
    await store.put("a", b"there")
    assert await store.get("a") == b"there"


def test_objects_are_where_the_setting_says() -> None:
    assert store_place("", "/data") == "/data/objects"
    assert store_place("/else/where", "/data") == "/else/where"
    assert store_place("s3://bucket/prefix", "/data") == "s3://bucket/prefix"
    with pytest.raises(SettingsError, match="ftp:// is no object store"):
        store_place("ftp://host", "/data")
