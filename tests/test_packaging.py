"""The files around the package say what the package is."""

import ast
import inspect
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import gradcore

ROOT = Path(__file__).resolve().parent.parent

SHARED = {"check_labels", "generator", "resolve"}  # between gradcore's modules; not promised to users


def text(name):
    return (ROOT / name).read_text(encoding="utf-8")


def public_names():
    """Every function and class that a user calls as gradcore.x or gradcore.module.x."""
    modules = ("activations", "callbacks", "datasets", "initializers", "losses", "optimizers")
    for prefix, module in [("", gradcore), *((f"{name}.", getattr(gradcore, name)) for name in modules)]:
        for name, value in vars(module).items():
            own = callable(value) and getattr(value, "__module__", "").startswith(module.__name__)
            if own and not name.startswith("_") and name not in SHARED:
                yield prefix + name, value


def shows_no_example(value):
    """Types that are handed out, not called, and exceptions have nothing to show."""
    kinds = ("Info", "Digits", "Table", "Loss", "Optimizer", "Initializer")
    return inspect.isclass(value) and (issubclass(value, Exception) or value.__name__.endswith(kinds))


def test_one_version_everywhere():
    assert f"\nversion: {gradcore.__version__}\n" in text("CITATION.cff")
    newest = re.search(r"^## (\S+)", text("CHANGELOG.md"), re.MULTILINE)
    assert newest[1] == gradcore.__version__


def test_ci_runs_the_commands_of_the_readme():
    commands = re.findall(r"```sh\n(.*?)\n```", text("README.md"), re.DOTALL)
    assert len(commands) == 2
    lines = {line.strip() for line in text(".ci/run").splitlines()}
    for command in commands:
        assert command in lines, f"README.md says {command!r}, .ci/run does not run it"


def printed(document, folder):
    """What the Python of a document prints, its blocks one after the other; budgets do not depend on the machine."""
    blocks = re.findall(r"```python\n(.*?)```", text(document), re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(blocks).replace('budget="20s"', 'budget="40000 steps"')],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(gradcore.__file__).parent.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return blocks, done.stdout


def test_the_examples_of_the_readme_run(tmp_path):
    (first, _), output = printed("README.md", tmp_path)
    assert len([line for line in first.splitlines() if line.strip()]) <= 15
    assert "'vanishing_gradient'" in output
    assert " helps: accuracy" in output
    assert float(output.split()[-1]) > 0.8


def test_the_examples_of_the_page_on_prescriptions_run(tmp_path):
    _, output = printed("docs/prescription.md", tmp_path)
    assert " helps: accuracy" in output
    assert (tmp_path / "prescription.html").exists()


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler here")
def test_the_examples_of_the_page_on_saving_run_in_python_and_in_c(tmp_path):
    _, output = printed("docs/saving.md", tmp_path)
    row, label = output.splitlines()
    page = text("docs/saving.md")
    (tmp_path / "main.c").write_text(re.search(r"```c\n(.*?)```", page, re.DOTALL)[1], encoding="utf-8")
    command = re.search(r"```sh\n(.*?)\n```", page, re.DOTALL)[1]
    subprocess.run(command.split(), cwd=tmp_path, check=True)
    said = subprocess.run(tmp_path / "main", input=row, capture_output=True, text=True, check=True)
    assert said.stdout.strip() == label


def test_links_of_the_documents_lead_somewhere():
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} links to {target}"


def test_the_extras_of_ci_are_the_extras_of_the_project():
    extras = tomllib.loads(text("pyproject.toml"))["project"]["optional-dependencies"]
    assert {"plot", "test", "bench", "peers", "dev"} <= set(extras)
    assert {"pytest", "hypothesis"} <= {re.match(r"[\w-]+", need)[0] for need in extras["test"]}


@pytest.mark.parametrize(("name", "value"), [pytest.param(*pair, id=pair[0]) for pair in public_names()])
def test_public_names_are_documented_with_an_example(name, value):
    documentation = inspect.getdoc(value) or ""
    assert documentation, f"gradcore.{name} has no docstring"
    if not shows_no_example(value):
        assert ">>> " in documentation, f"gradcore.{name} shows no example"


def test_the_stub_of_the_package_names_what_the_package_names():
    tree = ast.parse((ROOT / "gradcore" / "__init__.pyi").read_text())
    imported = {
        alias.asname for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert imported | {"__version__"} == set(gradcore.__all__)
