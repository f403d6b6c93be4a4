"""Rules that hold for the code as a whole: who imports whom, how long a file is, and that names are given once."""

import ast
import subprocess
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("sella_rec", "components", "pipeline")
SOURCE = {".py", ".j2", ".css", ".html", ".js"}
LONGEST = 300


def files(*packages: str) -> Iterator[Path]:
    found = [file for package in packages for file in (ROOT / package).rglob("*") if file.suffix in SOURCE]
    assert len(found) > 10 * len(packages)
    return iter(sorted(found))


def test_imports_keep_the_contracts_of_pyproject():
    # a process of its own: called here, it would silence the loggers that other tests listen to
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache", "--no-logo"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_file_is_longer_than_can_be_read_in_one_go():
    lengths = {str(file.relative_to(ROOT)): len(file.read_text().splitlines()) for file in files(*PACKAGES)}
    assert {name: length for name, length in lengths.items() if length > LONGEST} == {}


def test_what_is_no_python_is_installed_too():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    installed = {file for package, globs in declared.items() for glob in globs for file in _folder(package).glob(glob)}
    kinds = {"", ".py", ".pyc"}
    found = {file for package in PACKAGES for file in (ROOT / package).rglob("*") if file.suffix not in kinds}
    assert {str(file.relative_to(ROOT)) for file in found - installed} == set()


def _folder(package: str) -> Path:
    return ROOT / package.replace(".", "/")


def test_a_package_says_nothing_by_itself_but_for_the_configuration():
    said = {str(file.relative_to(ROOT)) for file in files(*PACKAGES) if file.name == "__init__.py" and file.read_text()}
    assert said == {"sella_rec/config/__init__.py"}


def test_no_two_public_classes_have_the_same_name():
    places: dict[str, list[str]] = defaultdict(list)
    for file in files(*PACKAGES, "benchmarks"):
        if file.suffix == ".py":
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    places[node.name].append(str(file.relative_to(ROOT)))
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_no_variable_of_ours_is_read_but_by_the_name_that_the_environment_module_gives_it():
    from sella_rec import environment

    ours = {value for value in vars(environment).values() if isinstance(value, str) and value.startswith("SELLA_")}
    assert len(ours) > 5
    repeated = {
        f"{file.relative_to(ROOT)}: {node.value}"
        for file in files(*PACKAGES)
        if file.suffix == ".py" and file != ROOT / "sella_rec" / "environment.py"
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant) and node.value in ours
    }
    assert repeated == set()
