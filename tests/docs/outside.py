"""An environment outside of the source tree: its own folder and site-packages, in which all that this one has can be imported."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

SHIMS = {
    # Offline, and with what is here: nothing is fetched, and no other environment is made to build in.
    "pip": '-m pip "$1" --no-deps --no-index --no-build-isolation --disable-pip-version-check "${@:2}"',
    "pytest": '-m pytest -p no:cacheprovider "$@"',
    "mdive": '-m mdive "$@"',
}


def environment(folder):
    """Make it, and return the environment variables with which its commands are found."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True, timeout=120)
    python = Path(folder) / "bin" / "python"
    site = Path(folder) / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    (site / "outer.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    for name, command in SHIMS.items():
        shim = python.with_name(name)
        shim.write_text(f'#!/usr/bin/env bash\nexec "{python}" {command}\n')
        shim.chmod(0o755)
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MDIVE_", "PYTEST_"))}
    return {**clean, "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "110"}


def shell(command, folder, variables):
    """Run a line as a reader types it; return what it prints."""
    done = subprocess.run(["bash", "-c", command], cwd=folder, env=variables, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"$ {command}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr
