"""Reads a guide as its reader would use it: files are written, commands run, Python executed, in the order of the page."""

import doctest
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from mdive.cli import main

FENCE = re.compile(
    r"^(?:% exit (?P<exit>\d+)\n)?```(?P<info>[^\n]*)\n(?P<body>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
RUN = {"python", "pycon", "console"}
"""Kinds of blocks that are executed. Others (``bash``) need a network, an installation or the reader's own files."""


@dataclass
class Block:
    kind: str
    caption: str
    body: str
    exit: int


def blocks(text):
    found = []
    for match in FENCE.finditer(text):
        kind = match["info"].removeprefix("{code-block}").strip()
        caption, body = "", match["body"]
        if body.startswith(":caption:"):
            head, _, body = body.partition("\n")
            caption, body = head.removeprefix(":caption:").strip(" `"), body.removeprefix("\n")
        found.append(Block(kind, caption, body, int(match["exit"] or 0)))
    return found


def alike(text):
    """Return a text without what may differ between machines and versions of an algorithm: numbers, grades, spaces. Words stay."""
    return re.sub(r"\s+", " ", re.sub(r"\d[\d.,]*", "#", re.sub(r"grade [A-D]\b", "grade", text))).strip()


class Alike(doctest.OutputChecker):
    def check_output(self, want, got, optionflags):
        return super().check_output(alike(want) + "\n", alike(got) + "\n", optionflags)


def pycon(body, names):
    test = doctest.DocTestParser().get_doctest(body, names, "guide", None, 0)
    report = []
    runner = doctest.DocTestRunner(Alike(), optionflags=doctest.ELLIPSIS)
    runner.run(test, out=report.append, clear_globs=False)
    names.update(test.globs)
    assert not runner.failures, "".join(report)


def console(block, capsys, monkeypatch):
    """Run the commands of a block; what the guide shows must be in what they print, line by line and in this order."""
    for part in re.split(r"^\$ ", block.body, flags=re.MULTILINE)[1:]:
        command, _, shown = part.partition("\n")
        words = command.split()
        assert words[0] == "mdive", command
        monkeypatch.setattr(sys, "argv", words)
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        assert (ended.value.code, command) == (block.exit, command), err
        printed = iter([alike(line) for line in (out + err).splitlines()])
        for line in shown.splitlines():
            want = alike(line)
            if want in {"", "..."}:
                continue
            end = want.removesuffix("...")
            assert any(got.startswith(end) if end != want else got == want for got in printed), (
                f"{command}\nno line {line!r} in\n{out}{err}"
            )


def follow(page, capsys, monkeypatch):
    names = {"__name__": "guide"}
    done = 0
    for block in blocks(Path(page).read_text()):
        if block.caption:
            target = Path(block.caption)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(block.body)
        elif block.kind == "python":
            exec(compile(block.body, page.name, "exec"), names)
        elif block.kind == "pycon":
            pycon(block.body, names)
        elif block.kind == "console":
            console(block, capsys, monkeypatch)
        done += block.kind in RUN
    return done
