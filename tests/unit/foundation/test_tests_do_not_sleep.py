"""No test waits for time to pass: a sleep is a poll within a loop that waits for a condition, or a fault on purpose."""

import ast
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).resolve().parents[2]
ELSEWHERE = ("bench/", "fidelity/", "fuzz/")
"""Benchmarks measure time, and the judge of fidelity is taken over as it is."""
ON_PURPOSE = {
    "support/kubelet/": "does what a kubelet does: probes wait for their period, hooks for what the pod says",
    "support/kubernetes_cluster.py": "the end of TLS connections, once in a run: nothing tells of it",
    "integration/local/test_kills_everywhere.py": "the moment of a kill is drawn by lot",
    "integration/local/test_loadbalancer_local.py": "a target that answers slowly",
    "integration/local/test_contract_local.py": "the contract suite's own poll",
}


def sleeps(node: ast.AST, looping: bool = False) -> Iterator[int]:
    """The lines of sleeps outside of any loop of their function; `sleep(0)` only lets others run."""
    for child in ast.iter_child_nodes(node):
        within = looping or isinstance(child, ast.While | ast.For | ast.AsyncFor)
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            within = False
        match child:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="asyncio" | "time"), attr="sleep"), args=[length]):
                if not within and not (isinstance(length, ast.Constant) and length.value == 0):
                    yield child.lineno
        yield from sleeps(child, within)


def test_each_sleep_is_a_poll() -> None:
    found = []
    for path in sorted(TESTS.rglob("*.py")):
        name = path.relative_to(TESTS).as_posix()
        if not name.startswith((*ELSEWHERE, *ON_PURPOSE)):
            found += [f"{name}:{line}" for line in sleeps(ast.parse(path.read_text()))]
    assert found == [], "wait for a condition with a deadline instead"


def test_it_would_find_one() -> None:
    assert list(
        sleeps(ast.parse("async def f():\n await asyncio.sleep(1)\n while True:\n  await asyncio.sleep(1)"))
    ) == [2]
    assert list(sleeps(ast.parse("while True:\n def f():\n  time.sleep(0.1)\n asyncio.sleep(0)"))) == [3]
