"""What may be touched where: environment, arguments, ctypes, the network and files each have their place."""

from __future__ import annotations

import ast

#: These read the surroundings of the process; everything below the command line is given them (design.md, section 7).
SURROUNDINGS = {"os.environ", "os.environb", "os.getenv", "os.getcwd", "os.getcwdb", "os.path.expanduser", "sys.argv"}
#: Files, sockets and programs: spec values and the Dockerfile front end are pure text in, values out.
OUTSIDE_WORLD = {
    "open", "io.open", "os.open", "os.read", "os.write", "os.stat", "os.listdir", "os.scandir", "os.walk", "input",
}  # fmt: skip
OUTSIDE_MODULES = {"socket", "ssl", "subprocess", "urllib.request", "http.client", "pathlib", "tempfile", "shutil"}
PURE = ("spec", "build/dockerfile", "errors", "progress")
LONGEST = 700
#: Programs of their own, started by conmon or as a server: edges like the command line.
PROGRAMS = ("runtime/exited", "registry/__main__")


def _uses(module, names) -> list[str]:
    return [f"{module.name}:{line}: {name}" for name, line in module.dotted() if name in names]


def _roots(name: str) -> set[str]:
    parts = name.split(".")
    return {".".join(parts[:count]) for count in range(1, len(parts) + 1)}


def test_only_the_command_line_reads_environment_arguments_and_working_directory(modules):
    allowed = ("cli", "__main__", "testing", *PROGRAMS)
    assert [use for module in modules if not module.under(*allowed) for use in _uses(module, SURROUNDINGS)] == []
    hidden = [
        f"{module.name}:{line}: {name}"
        for module in modules
        if not module.under(*allowed)
        for name, line in module.imports()
        if name in SURROUNDINGS
    ]
    assert hidden == []


def test_ctypes_stays_in_linux(modules):
    assert [
        f"{module.name}:{line}"
        for module in modules
        if not module.under("linux")
        for name, line in module.imports()
        if "ctypes" in _roots(name)
    ] == []


def test_values_and_the_dockerfile_front_end_touch_nothing_outside(modules):
    pure = [module for module in modules if module.under(*PURE)]
    assert pure
    assert [use for module in pure for use in _uses(module, OUTSIDE_WORLD)] == []
    assert [
        f"{module.name}:{line}: {name}"
        for module in pure
        for name, line in module.imports()
        if OUTSIDE_MODULES & _roots(name)
    ] == []


def test_no_module_reaches_up_with_a_relative_import(modules):
    # a name says where it comes from; `from ..x import y` does not
    assert [
        f"{module.name}:{node.lineno}"
        for module in modules
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ImportFrom) and node.level > 1
    ] == []


def test_asyncio_lives_in_the_servers(modules):
    # design.md, decision 2: a sync core with threads, async only inside the HTTP servers
    assert [
        f"{module.name}:{line}: {name}"
        for module in modules
        if not module.under("registry", "testing")
        for name, line in module.imports()
        if {"asyncio", "aiohttp", "uvloop"} & _roots(name)
    ] == []


def test_the_clock_is_passed_in(modules):
    # one place reads the wall clock; everything else takes a Callable. time.monotonic and perf_counter measure, and may.
    clocks = {"datetime.now", "datetime.utcnow", "datetime.today", "date.today", "datetime.datetime.now"}
    assert [
        use
        for module in modules
        if not module.under("spec/timestamp", "cli", "testing", *PROGRAMS)
        for use in _uses(module, clocks)
    ] == []


def test_modules_stay_readable(modules):
    assert {module.name: module.text.count("\n") for module in modules if module.text.count("\n") > LONGEST} == {}


def test_every_module_says_its_purpose(modules):
    assert [module.name for module in modules if not ast.get_docstring(module.tree)] == []


def test_nothing_is_called_utils(modules):
    vague = {"utils", "util", "helpers", "common", "misc"}  # a credential helper is a thing; helpers are not
    assert [module.name for module in modules if set(module.name.removesuffix(".py").split("/")) & vague] == []


def test_packages_hold_no_code(modules):
    """`__init__` is a docstring, and at most re-exports: importing a package costs nothing and does nothing."""
    allowed = (ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign)
    assert [
        f"{module.name}:{node.lineno}"
        for module in modules
        if module.path.name == "__init__.py"
        for node in module.tree.body
        if not isinstance(node, allowed) and not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
    ] == []
