"""Asking a bundle from the command line: known users, and somebody new who names liked titles."""

import pytest
from typer.testing import CliRunner

from pipeline.cli.main import app


@pytest.fixture(scope="module")
def ask(fused):
    return lambda *words: CliRunner().invoke(app, [*words, "--bundle", str(fused)])


def ids(printed):
    return [line.split("│")[3].strip() for line in printed.splitlines() if line.startswith("│")]


def test_somebody_new_is_recommended_by_titles(ask):
    found = ask("recommend", "--history", "3", "--history", "Heist Alibi Witness 99", "--top", "4", "--retrieve", "9")
    assert found.exit_code == 0, found.output
    assert "For these likes" in found.output
    assert len(set(ids(found.output))) == 4
    assert "3" not in ids(found.output)
    other = ask("recommend", "--history", "70", "--history", "66", "--top", "4")
    assert other.output != found.output


def test_scores_come_in_the_order_asked(ask, tmp_path):
    pairs = [("1", "5"), ("7", "9"), ("1", "6"), ("7", "5")]
    (tmp_path / "pairs.csv").write_text("user_id,item_id\n" + "".join(f"{u},{i}\n" for u, i in pairs))
    found = ask("score", "--pairs", str(tmp_path / "pairs.csv")).output.splitlines()
    assert found[0] == "user_id,item_id,score"
    rows = [line.split(",") for line in found[1:]]
    assert [tuple(row[:2]) for row in rows] == pairs
    for user, item, score in rows:
        alone = ask("score", "--user", user, "--item", item).output.splitlines()[1]
        assert float(alone.split(",")[2]) == pytest.approx(float(score), abs=1e-5)


def test_nobody_and_nothing_are_told(ask):
    unknown = ask("recommend", "nobody")
    assert unknown.exit_code == 1
    assert "user_id 'nobody' is not known to this model (40 are, such as '1')" in unknown.output
    assert "--history TITLE" in unknown.output
    assert ask("recommend", "nobody", "--history", "3").exit_code == 0
    assert ask("recommend").exit_code == 2
    wrong = ask("recommend", "1", "--history", "4711")
    assert wrong.exit_code == 1
    assert wrong.output.startswith("history[0]: item_id '4711' is not known to this model")
