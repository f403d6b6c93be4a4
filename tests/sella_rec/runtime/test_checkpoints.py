import re
import subprocess
import sys

import pytest

from sella_rec.errors import UserError
from sella_rec.runtime.checkpoints import checkpoint_folder, content_digest

KEY = ("tune-llm", "{}", "v1")


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    (folder / "inner").mkdir(parents=True)
    (folder / "train.parquet").write_bytes(b"rows")
    (folder / "inner" / "items.parquet").write_bytes(b"titles")
    return folder


def test_the_same_work_has_the_same_folder_wherever_its_inputs_lie(tmp_path, data):
    moved = tmp_path / "elsewhere"
    first = checkpoint_folder(tmp_path / "root", KEY, {"dataset": data})
    data.rename(moved)
    assert checkpoint_folder(tmp_path / "root", KEY, {"dataset": moved}) == first
    assert first.is_dir()
    assert first.name.startswith("tune-llm-")


@pytest.mark.parametrize("left", [False, True])
def test_a_volume_that_does_not_let_this_account_write_is_told_with_path_account_and_fix(foreign_folder, left):
    root, user = foreign_folder.path, foreign_folder.user
    if left:
        # by an attempt under another account
        checkpoint_folder(root, KEY, {}).chmod(0o555)
    with foreign_folder.refusing(), pytest.raises(UserError) as told:
        checkpoint_folder(root, KEY, {})
    where = rf"{root}/tune-llm-\w+\S* \(SELLA_CHECKPOINTS={root}\)"
    assert re.match(rf"{where}: Permission denied for user {user}: let user {user} read and write", str(told.value))
    assert "docs/operations.md, Volumes" in str(told.value)


@pytest.mark.parametrize("key", [("fuse", "{}", "v1"), ("tune-llm", '{"seed":1}', "v1"), ("tune-llm", "{}", "v2")])
def test_other_step_configuration_or_code_is_other_work(tmp_path, data, key):
    inputs = {"dataset": data}
    assert checkpoint_folder(tmp_path / "root", key, inputs) != checkpoint_folder(tmp_path / "root", KEY, inputs)


def test_the_digest_follows_names_and_contents_but_not_times(data):
    first = content_digest(data)
    (data / "steps.json").write_text('{"prepare-data": {"seconds": 3}}')
    assert content_digest(data) == first
    (data / "train.parquet").rename(data / "valid.parquet")
    renamed = content_digest(data)
    assert renamed != first
    (data / "valid.parquet").write_bytes(b"other")
    assert content_digest(data) not in (first, renamed)


def test_parts_of_the_key_do_not_run_together(tmp_path):
    root = tmp_path / "root"
    assert checkpoint_folder(root, ("fuse", "ab", "c"), {}) != checkpoint_folder(root, ("fuse", "a", "bc"), {})


def test_under_the_local_runner_one_process_at_a_time_works_in_a_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SELLA_LOCK", str(tmp_path / "lock"))
    code = (
        "import sys; from pathlib import Path; from sella_rec.runtime.checkpoints import checkpoint_folder;"
        f"checkpoint_folder(Path({str(tmp_path)!r}), {KEY!r}, {{}}); print('mine', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as first:
        assert first.stdout.readline() == "mine\n"
        with subprocess.Popen(command, **pipes) as second:
            with pytest.raises(subprocess.TimeoutExpired):
                second.wait(timeout=1)
            first.kill()
            assert second.stdout.readline() == "mine\n"
            second.stdin.close()
            assert second.wait(timeout=10) == 0
