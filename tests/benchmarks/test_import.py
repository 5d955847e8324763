"""`import mdive` stays light: nothing heavy is imported before it is used."""

import subprocess
import sys


def test_importing_mdive_imports_nothing_heavy():
    heavy = ("xarray", "dask", "numba", "rasterio", "scipy", "pydantic", "odc", "pystac", "pandas", "matplotlib")
    code = f"import sys, mdive; print([m for m in {heavy!r} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()
    assert found == "[]"
