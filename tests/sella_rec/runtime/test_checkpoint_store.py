"""Copies of checkpoints in fsspec's store in memory, and in a folder by its URI."""

import fsspec
import pytest

from sella_rec.config import LaunchConfig
from sella_rec.runtime.checkpoint_store import STATE, CheckpointStore, CheckpointStoreError, open_checkpoint_store


@pytest.fixture(params=["memory", "file"])
def uri(request, tmp_path):
    if request.param == "file":
        yield (tmp_path / "bucket" / "fuse-0123").as_uri()
        return
    yield "memory://bucket/fuse-0123"
    store = fsspec.filesystem("memory")
    if store.exists("/bucket"):
        store.rm("/bucket", recursive=True)


@pytest.fixture
def checkpoint(tmp_path):
    """Makes a complete checkpoint, one of whose files lies in a folder of its own."""

    def make(step):
        folder = tmp_path / "checkpoints" / f"checkpoint-{step}"
        (folder / "rank").mkdir(parents=True)
        (folder / "trainable.safetensors").write_bytes(bytes([step]) * 1000)
        (folder / "rank" / "state").write_text(f"rank at {step}")
        (folder / STATE).write_text(f'{{"global_step": {step}}}')
        return folder

    return make


def content(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_newest_comes_back_as_it_was(uri, checkpoint, tmp_path):
    store, made = CheckpointStore(uri), [checkpoint(step) for step in (9, 10)]
    for folder in made:
        store.keep(folder, kept=2)
    # another process
    CheckpointStore(uri).fetch(tmp_path / "here", after=-1)
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["checkpoint-10"]
    assert content(tmp_path / "here" / "checkpoint-10") == content(made[1])


def test_nothing_is_fetched_that_is_not_later(uri, checkpoint, tmp_path):
    store = CheckpointStore(uri)
    store.fetch(tmp_path / "here", after=-1)
    store.keep(checkpoint(10), kept=2)
    store.fetch(tmp_path / "here", after=10)
    assert not (tmp_path / "here").exists()


def test_a_copy_that_was_cut_off_does_not_count_until_it_is_made_again(uri, checkpoint, tmp_path, monkeypatch):
    store, first, second = CheckpointStore(uri), checkpoint(5), checkpoint(10)
    store.keep(first, kept=2)
    put_file = store._store.put_file

    def cut_off(source, target):
        if STATE in target:
            raise ConnectionError("gone")
        put_file(source, target)

    monkeypatch.setattr(store._store, "put_file", cut_off)
    with pytest.raises(CheckpointStoreError, match=r"launch\.checkpoint_uri: .*fuse-0123 cannot be used: gone"):
        store.keep(second, kept=2)
    monkeypatch.undo()
    store.fetch(tmp_path / "here", after=-1)
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["checkpoint-5"]
    store.keep(second, kept=2)
    store.fetch(tmp_path / "here", after=5)
    assert content(tmp_path / "here" / "checkpoint-10") == content(second)


def test_the_newest_few_are_kept_and_all_go_in_the_end(uri, checkpoint, tmp_path):
    store = CheckpointStore(uri)
    for step in (8, 9, 10):
        store.keep(checkpoint(step), kept=2)
    filesystem, path = fsspec.core.url_to_fs(uri)
    assert {name.rpartition("/")[2] for name in filesystem.ls(path, detail=False)} == {"checkpoint-9", "checkpoint-10"}
    for _ in range(2):
        store.clear()
    store.fetch(tmp_path / "here", after=-1)
    assert not (tmp_path / "here").exists()


def test_an_address_that_cannot_be_is_told_with_its_field():
    with pytest.raises(CheckpointStoreError, match=r"launch\.checkpoint_uri: nowhere://x.*nowhere"):
        CheckpointStore("nowhere://x")


def test_the_store_is_named_like_the_folder_and_made_only_where_configured(tmp_path):
    assert open_checkpoint_store(LaunchConfig(), tmp_path) is None
    store = open_checkpoint_store(LaunchConfig(checkpoint_uri="memory://bucket/"), tmp_path / "fuse-0123")
    assert store is not None
    assert store._path == "/bucket/fuse-0123"


def test_a_part_has_checkpoints_of_its_own_and_is_cleared_with_the_whole(uri, checkpoint, tmp_path):
    launch, folder = LaunchConfig(checkpoint_uri=uri), tmp_path / "tune-llm-0123"
    whole, part = open_checkpoint_store(launch, folder), open_checkpoint_store(launch, folder, "titles")
    part.keep(checkpoint(5), kept=2)
    whole.fetch(tmp_path / "whole", after=-1)
    part.fetch(tmp_path / "part", after=-1)
    assert not (tmp_path / "whole").exists()
    assert [path.name for path in (tmp_path / "part").iterdir()] == ["checkpoint-5"]
    whole.clear()
    part.fetch(tmp_path / "cleared", after=-1)
    assert not (tmp_path / "cleared").exists()
