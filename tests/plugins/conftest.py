"""Plugins as they are installed: real ``.dist-info`` folders on ``sys.path``, found by ``importlib.metadata`` like any other package."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from importlib.metadata import entry_points

import pytest

from mdive.plugins.registry import Registry

HEAD = """
from mdive.plugins import RasterSpec, algorithm, hookimpl
mdive_api = 1
EXTENT = RasterSpec(name="extent", long_name="x", dtype="uint8")
"""

ALGORITHM = """
@algorithm({name!r}, version="1.0.0", needs={{"post": ("red",)}}, outputs=(EXTENT,), sensor="optical")
def {function}(post, /, *, limit: float = 0.5):
    "Do something."
    return {{}}
"""


class Site:
    """A folder of installed packages."""

    def __init__(self, folder):
        self.folder = folder
        self.modules = []

    def install(self, package, body, *, version="1.0", entry="{module}", name=None, metadata=True, head=HEAD):
        """Write a package with one module and one entry point; ``entry`` is its value, ``name`` its name (default: the package's)."""
        module = package.replace("-", "_") + "_module"
        (self.folder / f"{module}.py").write_text(head + textwrap.dedent(body))
        info = self.folder / f"{package.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        if metadata:
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[mdive]\n{name or package} = {entry.format(module=module)}\n")
        self.modules.append(module)
        return module

    def algorithms(self, *names):
        """Return the source of algorithms with these names and of the hook that gives them."""
        functions = {name: name.replace(".", "_") for name in names}
        source = "".join(ALGORITHM.format(name=name, function=function) for name, function in functions.items())
        return source + f"\n@hookimpl\ndef mdive_algorithms():\n    return [{', '.join(functions.values())}]\n"

    def registry(self, **options):
        """Load what is installed here, and mdive's own plugin, in this process."""
        return Registry(entry_points(group="mdive"), **options)

    def ask(self, code, **environment):
        """Run code in a fresh interpreter that has these packages and return what it prints as JSON."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith("MDIVE_")}
        run = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)],
            env={**clean, **environment, "PYTHONPATH": str(self.folder)},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert run.returncode == 0, run.stderr
        return json.loads(run.stdout)


@pytest.fixture
def site(tmp_path, monkeypatch):
    """An empty folder of installed packages, in front on ``sys.path``."""
    monkeypatch.syspath_prepend(str(tmp_path))
    site = Site(tmp_path)
    yield site
    for module in site.modules:
        sys.modules.pop(module, None)
