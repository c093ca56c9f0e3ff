"""`--completion`: the scripts, the words, and the shells themselves."""

from __future__ import annotations

import subprocess

import pytest

from harness import needs
from harness.command import BIN, environment
from harness.terminal import Terminal
from harness.waiting import scaled


@pytest.mark.parametrize("program", ["resqued", "resquedctl"])
@pytest.mark.parametrize(
    ("shell", "mark"), [("bash", "complete -"), ("zsh", "compdef"), ("fish", "complete")]
)
def test_scripts_for_shells(program, shell, mark):
    done = subprocess.run(
        [str(BIN / program), "--completion", shell], capture_output=True, text=True, cwd="/"
    )
    assert done.returncode == 0, done.stderr
    assert mark in done.stdout
    assert f"_{program.upper()}_COMPLETE" in done.stdout


@pytest.mark.parametrize(
    ("program", "typed", "word"),
    [
        ("resqued", "resqued --que", "--queue"),
        ("resqued", "resqued --max-j", "--max-jobs"),
        ("resquedctl", "resquedctl rel", "reload"),
        ("resquedctl", "resquedctl reload --wa", "--wait"),
        ("resquedctl", "resquedctl status --wat", "--watch"),
    ],
)
def test_words_that_complete(program, typed, word):
    done = subprocess.run(
        [str(BIN / program)],
        env={
            **environment(),
            f"_{program.upper()}_COMPLETE": "bash_complete",
            "COMP_WORDS": typed,
            "COMP_CWORD": str(len(typed.split()) - 1),
        },
        capture_output=True,
        text=True,
        cwd="/",
    )
    assert done.returncode == 0, done.stderr
    assert f"plain,{word}" in done.stdout.splitlines()


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("resqued --log-format ", ["plain,text", "plain,json"]),
        ("resqued --isolation w", ["plain,worker"]),
        ("resqued --completion ", ["plain,bash", "plain,zsh", "plain,fish"]),
        ("resqued --config ", ["file,"]),
        ("resqued --pid /tmp/a", ["file,/tmp/a"]),
        ("resquedctl --control /run/r", ["file,/run/r"]),
    ],
)
def test_values_that_complete(typed, words):
    program = typed.split()[0]
    done = subprocess.run(
        [str(BIN / program)],
        env={
            **environment(),
            f"_{program.upper()}_COMPLETE": "bash_complete",
            "COMP_WORDS": typed,
            "COMP_CWORD": str(len(typed.split(" ")) - 1),
        },
        capture_output=True,
        text=True,
        cwd="/",
    )
    assert done.stdout.splitlines() == words, done.stderr


# The shells.


def on_path() -> dict[str, str]:
    return {"PATH": f"{BIN}:{environment()['PATH']}"}


def test_bash():
    bash = needs.program("bash", "bash")
    script = """
        source <(resquedctl --completion bash)
        COMP_WORDS=(resquedctl queue pa) COMP_CWORD=2
        _resquedctl_completion resquedctl; echo "${COMPREPLY[@]}"
    """
    assert ask([bash, "--norc", "-c", script]) == ["pause"]


def test_fish(tmp_path):
    fish = needs.program("fish", "fish")

    def complete(typed: str) -> list[str]:
        program = typed.split()[0]
        script = f"{program} --completion fish | source; complete -C '{typed}'"
        return ask([fish, "--no-config", "-c", script], HOME=str(tmp_path))

    found = dict(line.split("\t") for line in complete("resquedctl sta"))
    assert found.keys() == {"status", "stacks"}
    assert found["status"].startswith("What runs, what waits")  # not cut at the comma
    assert complete("resqued --log-format j") == ["json"]
    assert complete("resquedctl queue pau")[0].startswith("pause\t")


def ask(line: list[str], **env: str) -> list[str]:
    done = subprocess.run(
        line,
        env=environment(**on_path(), **env),
        capture_output=True,
        text=True,
        timeout=scaled(30),
        stdin=subprocess.DEVNULL,
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_zsh(tmp_path):
    zsh = needs.program("zsh", "zsh")
    env = {**on_path(), "HOME": str(tmp_path), "TERM": "dumb"}
    with Terminal(zsh, "-f", "-i", **env) as terminal:
        terminal.type("PS1='%% '; autoload -Uz compinit; compinit -u\n")
        terminal.type("source <(resquedctl --completion zsh); source <(resqued --completion zsh)\n")
        terminal.type("print rea''dy\n")
        terminal.wait_for("ready")
        terminal.type("resquedctl stat\t")
        terminal.wait_for("resquedctl status")
        terminal.type("--wat\t")
        terminal.wait_for("--watch")
        terminal.type("\x15resqued --log-format j\t")
        terminal.wait_for("--log-format json")
        terminal.type("\x15exit\n")
        assert terminal.exit() == 0
