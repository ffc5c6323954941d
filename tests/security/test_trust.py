"""What SECURITY.md promises of the package's own code."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import io
import json
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dspy
import pytest
from dspy.utils import DummyLM

import dspy_parallel
from dspy_parallel import ResumeError, async_module, batch, loop_safe
from dspy_parallel.testing import LMServer

PACKAGE = Path(dspy_parallel.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

RUNS_DATA = {"eval", "exec", "execfile"}
UNPICKLERS = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
SHELLS = {"os.system", "os.popen", "commands.getoutput", "subprocess.getoutput", "subprocess.getstatusoutput"}
HOSTILE = "\x1b]0;owned\x07\x1b[2J<script>alert(1)</script>\u202e\r\n"
UNSAFE = {"yaml.load", "yaml.unsafe_load", "yaml.full_load", "tempfile.mktemp", "ssl._create_unverified_context"}


def dotted(node: ast.AST) -> str:
    """The name of what is called: `pickle.loads`."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def danger(call: ast.Call) -> str | None:
    """What is wrong with a call, if anything."""
    name = dotted(call.func)
    root, _, last = name.rpartition(".")
    options = {word.arg: word.value for word in call.keywords}

    def is_on(option: str) -> bool:
        value = options.get(option)
        return value is not None and not (isinstance(value, ast.Constant) and not value.value)

    if name in RUNS_DATA or name.removeprefix("builtins.") in RUNS_DATA:
        return "runs text as code"
    if root.partition(".")[0] in UNPICKLERS and last in ("load", "loads", "open", "Unpickler"):
        return "unpickles"
    if name in SHELLS or is_on("shell"):
        return "starts a shell"
    if name in UNSAFE or is_on("allow_pickle") or is_on("allow_unsafe_lm_state"):
        return "trusts what it should not"
    if "verify" in options and not is_on("verify"):
        return "does not verify certificates"
    return None


def dangers(source: str, name: str = "") -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and (reason := danger(node)):
            yield f"{name}:{node.lineno}: {ast.unparse(node.func)} {reason}"


def test_nothing_runs_or_unpickles_data() -> None:
    """No eval, no exec, no unpickling, no shell; also not of what the package itself has saved.

    Except between a driver and its Ray workers, which pickle to each other in any case, and in the command that is
    there to run a script.
    """
    command = PACKAGE / "cli" / "run_command.py"
    files = [file for file in FILES if file.parent != PACKAGE / "ray" and file != command]
    found = [line for file in files for line in dangers(file.read_text(encoding="utf-8"), file.name)]
    assert not found


@pytest.mark.parametrize(
    "source",
    [
        "eval(x)",
        "builtins.exec(x)",
        "pickle.loads(x)",
        "cloudpickle.load(x)",
        "pickle.Unpickler(x)",
        "os.system(x)",
        "subprocess.run(x, shell=True)",
        "yaml.load(x)",
        "np.load(x, allow_pickle=True)",
        "dspy.load(x, allow_pickle=wanted)",
        "requests.get(x, verify=False)",
    ],
)
def test_the_check_finds_what_it_looks_for(source: str) -> None:
    assert list(dangers(source))


def test_the_check_lets_the_rest_pass() -> None:
    assert not list(dangers("json.loads(x); re.compile(x); model.load(x); subprocess.run(x, shell=False); f.eval(x)"))


@pytest.mark.parametrize(
    ("mark", "name"),
    [
        ("$model", "subprocess:Popen"),  # a class, but no model
        ("$dataclass", "os:system"),
        ("$enum", "builtins:eval"),
        ("$model", "antigravity:Nothing"),  # not imported here, and stays so
        ("$pickle", "Y29zCnN5c3RlbQo="),
    ],
)
def test_a_resume_file_makes_nothing_but_data(tmp_path: Path, mark: str, name: str) -> None:
    """Whatever it names: models, dataclasses and enums of modules that are there, or an error."""
    path = tmp_path / "rows.jsonl"
    ran: list[str] = []

    def program(text: str) -> str:
        ran.append(text)
        return text

    assert batch(program, [{"text": "one"}], resume=path) == ["one"]
    header, row = path.read_text(encoding="utf-8").splitlines()
    hostile = {mark: name, "data": {"args": "touch owned", "command": "touch owned"}, "name": "touch owned"}
    path.write_text(f"{header}\n{json.dumps(json.loads(row) | {'result': hostile})}\n", encoding="utf-8")
    with pytest.raises(ResumeError):
        batch(program, [{"text": "one"}], resume=path)
    assert ran == ["one"]
    assert "antigravity" not in sys.modules


CODE = "__import__('pathlib').Path({path!r}).touch()"


@pytest.mark.parametrize("engine", ["loop", "thread"])
def test_what_an_lm_or_a_tool_says_is_not_run(tmp_path: Path, engine: Any) -> None:
    """Python, formats and markup come back as the text that they are, with overlap, too."""
    path = tmp_path / "owned"
    said = f"{CODE.format(path=str(path))} {{0.__class__}} %s $(touch {path}) {HOSTILE.strip()}"

    def look_up(word: str) -> str:
        return said

    class Agent(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.ask = dspy.Predict("question -> answer")
            self.tool = dspy.Tool(loop_safe(look_up))

        def forward(self, question: str) -> Any:
            found = self.tool(word=self.ask(question=question).answer)
            return f"{self.ask(question=found).answer}|{found}"

    answers = [{"answer": said.replace("\r\n", "")}] * 2
    with dspy.context(lm=DummyLM(answers)):
        result = asyncio.run(async_module(engine=engine, overlap=True)(Agent)().acall(question="?"))
    assert result == f"{answers[0]['answer']}|{said}"
    assert not path.exists()


def other_addresses() -> list[str]:
    """Addresses of this machine other than loopback."""
    with contextlib.suppress(OSError):
        return sorted(
            {
                str(info[4][0])
                for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)
                if not str(info[4][0]).startswith("127.")
            }
        )
    return []


def test_the_lm_server_listens_on_loopback_only() -> None:
    with LMServer() as server:
        port = server.port
        sockets = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        listening = [address for _, address, _, state, *_ in sockets if state == "0A"]
        mine = [address for address in listening if address.endswith(f":{port:04X}")]
        assert mine
        assert all(address.startswith("0100007F:") for address in mine)  # 127.0.0.1
        for address in other_addresses():
            with pytest.raises(OSError), socket.create_connection((address, port), timeout=5):
                pass


def test_the_lm_server_has_no_option_for_another_address() -> None:
    from dspy_parallel.testing.__main__ import main

    with pytest.raises(SystemExit), contextlib.redirect_stderr(io.StringIO()):
        main(["--host", "0.0.0.0"])
