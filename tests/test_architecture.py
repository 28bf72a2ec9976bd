"""The house keeps its own rules: namespace, arrows, names, fresh stubs, tests that say what is true."""

import ast
import re
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2

from execution_platform.v1 import (
    capability_pb2,
    catalog_pb2,
    chat_pb2,
    common_pb2,
    content_pb2,
    cost_pb2,
    error_pb2,
    usage_pb2,
)

ROOT = Path(__file__).resolve().parent.parent
CODE_ROOTS = [ROOT / "clients/python", ROOT / "adapters", ROOT / "server"]
GENERATED = ROOT / "clients/python/execution_platform/v1"
CLIENT = ROOT / "clients/python/execution_platform/client"
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())
SCRIPTS = Path(sysconfig.get_path("scripts"))
MODULES = [capability_pb2, catalog_pb2, chat_pb2, common_pb2, content_pb2, cost_pb2, error_pb2, usage_pb2]

Function = ast.FunctionDef | ast.AsyncFunctionDef


def code_files() -> Iterator[Path]:
    """Yield every hand-written Python file of the product."""
    for root in CODE_ROOTS:
        for path in sorted(root.rglob("*.py")):
            if GENERATED not in path.parents:
                yield path


def written_tests() -> Iterator[tuple[Path, Function]]:
    """Yield every test function with the file that it stands in."""
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        if "node_modules" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, Function) and node.name.startswith("test_"):
                yield path, node


def imported_modules(path: Path) -> Iterator[str]:
    """Yield the full name of every module that a file imports, wherever in the file it does so."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def shell_lines(page: Path) -> Iterator[str]:
    """Yield the command lines of a page's shell blocks, without comments."""
    for block in re.findall(r"^```(?:sh|shell|bash|console)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            if command := line.split(" #")[0].removeprefix("$ ").strip():
                yield command


def make_verbs(lines: Iterator[str]) -> set[str]:
    """Return the verbs of every `make` call in the lines."""
    return {verb for line in lines for verb in re.findall(r"\bmake ([a-z][a-z0-9-]*)", line)}


def test_the_namespace_stays_open() -> None:
    """No source root holds an execution_platform/__init__.py, which would hide the other roots."""
    assert [root for root in CODE_ROOTS if (root / "execution_platform/__init__.py").exists()] == []


def test_every_package_is_typed() -> None:
    """Each package of the namespace carries py.typed, so that callers' type checkers see it."""
    packages = [path for root in CODE_ROOTS for path in (root / "execution_platform").glob("*/")]
    assert [path for path in packages if not (path / "py.typed").exists()] == []


def test_the_arrows_hold() -> None:
    """Imports go only the ways that the import-linter contracts in pyproject.toml allow."""
    found = subprocess.run(
        [str(SCRIPTS / "lint-imports"), "--no-logo"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stdout + found.stderr


def test_the_client_needs_only_grpc_and_protobuf() -> None:
    """The client imports nothing but grpc, protobuf and the stubs; its command line also typer and rich."""
    ours = ("grpc", "google.protobuf", "execution_platform.v1", "execution_platform.client")
    strangers = []
    for path in CLIENT.rglob("*.py"):
        allowed = (*ours, "typer", "rich", "click") if path.name.startswith("cli") else ours
        strangers += [
            f"{path.name}: {name}"
            for name in imported_modules(path)
            if name.split(".")[0] not in sys.stdlib_module_names
            and not any(f"{name}.".startswith(f"{prefix}.") for prefix in allowed)
        ]
    assert strangers == []


def test_every_declared_provider_is_under_the_contract_between_providers() -> None:
    """Each provider of the entry points is one of the strangers that the providers contract names."""
    declared = SETTINGS["project"]["entry-points"]["execution_platform.adapters"]
    contract = next(c for c in SETTINGS["tool"]["importlinter"]["contracts"] if c["id"] == "providers")
    strangers = re.findall(r"\w+", contract["layers"][0])
    assert sorted(declared) == sorted(strangers)


def test_names_say_something() -> None:
    """No module is called utils, helpers or common, and no class is a Manager."""
    vague = {"util", "utils", "helper", "helpers", "common", "misc"}
    found = [str(path) for path in code_files() if vague & {path.stem, *path.parent.parts}]
    for path in code_files():
        found += [
            f"{path}: {node.name}"
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.ClassDef) and "Manager" in node.name
        ]
    assert found == []


def test_the_stubs_are_those_of_the_protos() -> None:
    """Each generated module describes exactly the messages that its proto file declares now."""
    built = subprocess.run(
        [
            str(SCRIPTS / "buf"),
            "build",
            "--exclude-source-info",
            "--exclude-imports",
            "--output",
            "-",
        ],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    protos = {file.name: file for file in descriptor_pb2.FileDescriptorSet.FromString(built.stdout).file}
    assert sorted(protos) == sorted(module.DESCRIPTOR.name for module in MODULES)
    for module in MODULES:
        generated = descriptor_pb2.FileDescriptorProto()
        module.DESCRIPTOR.CopyToProto(generated)
        assert bare(generated) == bare(protos[generated.name]), f"{generated.name}: run `make protos`"


def bare(file: descriptor_pb2.FileDescriptorProto) -> str:
    """Return a file's declarations without what only the compiler adds: JSON names and buf's own extension."""
    file.DiscardUnknownFields()
    return re.sub(r'^ *json_name: ".*"\n', "", str(file), flags=re.MULTILINE)


def test_every_test_says_what_is_true() -> None:
    """The docstring of each test is one sentence, ended by a full stop."""
    wrong = []
    for path, function in written_tests():
        said = " ".join((ast.get_docstring(function) or "").split())
        one_sentence = said.endswith(".") and not re.search(r"[.!?] [A-Z]", said)
        if not one_sentence:
            wrong.append(f"{path.relative_to(ROOT)}:{function.lineno} {function.name}")
    assert wrong == []


def test_readme_commands_exist_and_ci_runs_them() -> None:
    """Every make verb that the README names exists, and .ci/run calls the README's two main ones."""
    makefile = (ROOT / "Makefile").read_text()
    verbs = set(re.findall(r"^([a-z][a-z0-9-]*):.*## ", makefile, re.MULTILINE))
    named = make_verbs(shell_lines(ROOT / "README.md"))
    called = make_verbs(iter((ROOT / ".ci/run").read_text().splitlines()))
    assert {"run", "test"} <= named <= verbs
    assert {"run", "test"} <= called <= verbs


def test_both_distributions_carry_the_same_licence() -> None:
    """The client's licence file is the repository's, byte for byte."""
    assert (ROOT / "LICENSE").read_bytes() == (ROOT / "clients/python/LICENSE").read_bytes()


@pytest.mark.parametrize("root", CODE_ROOTS, ids=lambda root: root.name)
def test_no_module_keeps_state_of_its_own(root: Path) -> None:
    """No module holds an empty list, dict or set that could be filled while running."""
    found = []
    for path in root.rglob("*.py"):
        if GENERATED in path.parents:
            continue
        found += [
            f"{path.relative_to(ROOT)}:{node.lineno}"
            for node in ast.parse(path.read_text()).body
            if isinstance(node, ast.Assign | ast.AnnAssign) and is_empty_container(node.value)
        ]
    assert found == []


def is_empty_container(value: ast.expr | None) -> bool:
    """Tell whether an expression makes an empty list, dict or set."""
    match value:
        case ast.List(elts=[]) | ast.Dict(keys=[]):
            return True
        case ast.Call(func=ast.Name(id="list" | "dict" | "set" | "defaultdict"), args=[]):
            return True
        case _:
            return False
