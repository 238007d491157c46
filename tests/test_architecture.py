"""The arrows between the parts, and what each part may bring along."""

from __future__ import annotations

import ast
import filecmp
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PARTS = {
    "nextok": ROOT / "client" / "nextok",
    "nextok_server": ROOT / "server" / "nextok_server",
    "nextok_export": ROOT / "export" / "nextok_export",
}
DOORS = {
    "llguidance": {"constraints.py"},
    "onnxruntime": {"model.py"},
    "tokenizers": {"tokenizer.py"},
    "prometheus_client": {"metrics.py"},
}


def imports_of(file: Path) -> set[str]:
    """Every module that a file imports, with its full name."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def sources(part: str) -> list[Path]:
    return [path for path in PARTS[part].rglob("*.py") if "v1" not in path.parts]


def is_within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


@pytest.mark.parametrize(
    ("part", "forbidden"),
    [
        ("nextok", ["nextok_server", "nextok_export"]),
        ("nextok_server", ["nextok_export", "torch", "transformers", "optimum", "onnx"]),
        ("nextok_export", ["nextok", "nextok_server"]),
    ],
)
def test_no_part_imports_what_it_must_not_know(part, forbidden):
    for file in sources(part):
        wrong = {m for m in imports_of(file) for name in forbidden if is_within(m, name)}
        assert wrong == set(), file


def test_the_server_takes_nothing_but_the_stubs_from_the_client():
    for file in sources("nextok_server"):
        taken = {module for module in imports_of(file) if is_within(module, "nextok")}
        assert all(is_within(module, "nextok.v1") for module in taken), file


@pytest.mark.parametrize(("library", "doors"), DOORS.items())
def test_each_library_of_the_server_has_one_door(library, doors):
    users = {
        file.name
        for file in sources("nextok_server")
        if any(is_within(module, library) for module in imports_of(file))
    }
    assert users == doors


def test_only_the_load_generators_plots_know_matplotlib_and_its_figures_no_grpc():
    bench = PARTS["nextok"] / "bench"
    taken = {file: imports_of(file) for file in sources("nextok")}
    users = {f for f, found in taken.items() if any(is_within(m, "matplotlib") for m in found)}
    assert users == {bench / "plots.py"}
    for module in ("lengths", "settings", "plan", "exchange", "results", "report", "points"):
        found = taken[bench / f"{module}.py"]
        assert not any(is_within(m, name) for m in found for name in ("grpc", "asyncio", "time"))


def test_only_the_page_knows_web_servers_and_nothing_but_its_command_knows_the_page():
    web = PARTS["nextok"] / "web"
    taken = {file: imports_of(file) for file in sources("nextok")}
    users = {f for f, found in taken.items() if any(is_within(m, "starlette") for m in found)}
    users |= {f for f, found in taken.items() if any(is_within(m, "uvicorn") for m in found)}
    assert users
    assert all(web in file.parents for file in users)
    knowing = {f for f, found in taken.items() if any(is_within(m, "nextok.web") for m in found)}
    assert {f for f in knowing if web not in f.parents} == {PARTS["nextok"] / "cli" / "web.py"}
    for file in web.rglob("*.py"):
        assert not any(is_within(m, "nextok.cli") or is_within(m, "grpc") for m in taken[file])


def test_only_the_adapter_knows_the_evaluation_harness():
    taken = {file: imports_of(file) for file in sources("nextok")}
    users = {f for f, found in taken.items() if any(is_within(m, "lm_eval") for m in found)}
    assert users == {PARTS["nextok"] / "lm_eval.py"}
    assert not any("nextok.lm_eval" in found for found in taken.values())


def test_the_screen_library_has_its_doors_and_is_brought_only_by_its_command():
    explorer = PARTS["nextok"] / "explorer"
    taken = {file: imports_of(file) for file in sources("nextok")}
    users = {f for f, found in taken.items() if any(is_within(m, "textual") for m in found)}
    assert users == {explorer / "screen.py", explorer / "help.py"}


def test_the_engine_knows_no_text_and_no_wire_and_the_scheduler_no_tensors():
    def taken(name):
        return imports_of(PARTS["nextok_server"] / name)

    for module in (
        "engine.py",
        "reading.py",
        "scheduler.py",
        "distribution.py",
        "matching.py",
        "score_plan.py",
    ):
        assert not any(
            is_within(name, other)
            for name in taken(module)
            for other in ("grpc", "nextok.v1", "asyncio", "nextok_server.tokenizer")
        )
    assert "numpy" not in taken("scheduler.py")


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        (
            "import nextok",
            ["numpy", "onnxruntime", "torch", "transformers", "typer", "rich", "starlette"],
        ),
        ("import nextok.cli.app", ["textual", "starlette", "uvicorn", "onnxruntime", "torch"]),
        (
            "import nextok_server.app, nextok_server.__main__",
            ["torch", "transformers", "optimum", "onnx", "onnxscript", "huggingface_hub"],
        ),
    ],
)
def test_serving_and_asking_load_no_training_libraries(statement, absent):
    code = f"{statement}; import sys; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(run.stdout.split()) & set(absent)


def test_the_server_runs_where_the_exports_libraries_cannot_be_imported(tmp_path):
    for name in ("torch", "transformers", "optimum", "onnx"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('not installed here')")
    run = subprocess.run(
        [sys.executable, "-c", "import nextok, nextok_server.app"],
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr


def test_the_checked_in_stubs_are_those_of_the_protos(tmp_path):
    names = [f"nextok/v1/{path.name}" for path in (ROOT / "protos/nextok/v1").glob("*.proto")]
    subprocess.run(
        [
            sys.executable,
            "-m",
            "grpc_tools.protoc",
            "-I",
            "protos",
            *(f"--{kind}={tmp_path}" for kind in ("python_out", "pyi_out", "grpc_python_out")),
            *names,
        ],
        cwd=ROOT,
        check=True,
    )
    made = sorted(path.name for path in (tmp_path / "nextok/v1").iterdir())
    present = sorted(path.name for path in (PARTS["nextok"] / "v1").glob("*_pb2*"))
    assert made == present
    _, different, missing = filecmp.cmpfiles(
        tmp_path / "nextok/v1", PARTS["nextok"] / "v1", made, shallow=False
    )
    assert (different, missing) == ([], [])
