"""How much of a machine mdive takes: profiles, what is free here, and the settings of GDAL.

An argument beats ``MDIVE_*`` in the environment, which beats the profile.
"""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from math import ceil
from pathlib import Path
from types import MappingProxyType
from typing import Final

from mdive.errors import InputError, nearest

MIB: Final = 1024**2
GIB: Final = 1024**3


@dataclass(frozen=True, slots=True)
class Profile:
    """What a run may take of the machine. It changes speed and memory, never a result."""

    name: str
    summary: str
    memory_share: float
    """Share of the memory that is free when planning; the rest is for the file cache, the interpreter and other programs."""
    memory_cap: int | None
    """Bytes that are never exceeded, however much is free. None: no cap."""
    workers: int | None
    """Tiles computed at once. None: as many as there are cores for us."""
    tile_size: int
    """Largest tile edge that the planner chooses, in pixels; one float32 raster of 4096 x 4096 is 64 MiB."""
    fetch_threads: int
    """Reads in flight: remote blocks wait far more than they compute, so this does not follow the cores."""
    gdal_cache: int
    """Bytes of GDAL's own block cache, of which mdive, which reads each block once, has little use."""
    block_store: int
    """Bytes of unpacked blocks that are kept because a neighbouring tile or a halo may want them. A row of tiles that is 100 km wide, of eight
    bands, shares 200 MiB with the next row; with 64 MiB six in ten blocks are unpacked twice."""


CONTROL_GROUPS: Final = Path("/proc/self/cgroup")
CONTROL_ROOT: Final = Path("/sys/fs/cgroup")

PROFILES: Final[Mapping[str, Profile]] = MappingProxyType(
    {
        profile.name: profile
        for profile in (
            Profile(
                "edge", "a small board or a small container: one tile at a time, under 1 GiB", 0.25, 1 * GIB, 1, 1024, 4, 32 * MIB, 32 * MIB
            ),
            Profile("laptop", "a machine that is used for other things as well", 0.4, 8 * GIB, None, 1024, 16, 64 * MIB, 256 * MIB),
            Profile("workstation", "a machine for this work alone", 0.6, None, None, 4096, 32, 256 * MIB, 512 * MIB),
            Profile("cluster", "one node among many: the scheduler gave it to us", 0.7, None, None, 4096, 32, 256 * MIB, 512 * MIB),
        )
    }
)


def profile(name: str | None = None) -> Profile:
    """Return a profile by name, else that of ``MDIVE_PROFILE``, else ``laptop``.

    Raises
    ------
    InputError
        For a name that is not there.
    """
    asked = name or os.environ.get("MDIVE_PROFILE") or "laptop"
    if asked in PROFILES:
        return PROFILES[asked]
    source = "" if name else " (from MDIVE_PROFILE)"
    raise InputError(f"no profile {asked!r}{source}.{nearest(asked, PROFILES)}", f"Available: {', '.join(PROFILES)}.")


def worker_count(of: Profile, given: int | None = None) -> int:
    """Return how many tiles to compute at once: given, else ``MDIVE_WORKERS``, else the profile's, else the cores that we may use.

    Raises
    ------
    InputError
        For less than one, or an ``MDIVE_WORKERS`` that is no whole number.
    """
    count = given if given is not None else _whole_number("MDIVE_WORKERS")
    if count is None:
        return of.workers or core_count()
    if count < 1:
        raise InputError(f"{count} workers cannot do anything.", "Give 1 or more.")
    return count


def core_count() -> int:
    """Return how many cores this process may use: a container of two cores on a machine of 64 has two.

    The least of the machine's, those that it is bound to, and what its control groups let it take, rounded up.
    """
    # dask.system counts the same, after 40 ms of imports that nothing else in a run needs.
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([bound, *(ceil(share) for share in _control_group_cores())]))


def memory_budget(of: Profile, given: int | None = None) -> int:
    """Return how many bytes a run may use: given, else ``MDIVE_MEMORY``, else the profile's share of what is free, up to its cap.

    Raises
    ------
    InputError
        For nothing or less, or an ``MDIVE_MEMORY`` that is no size.
    """
    budget = given if given is not None else _size("MDIVE_MEMORY")
    if budget is None:
        share = int(of.memory_share * available_memory())
        return share if of.memory_cap is None else min(share, of.memory_cap)
    if budget <= 0:
        raise InputError(f"a memory budget of {budget} bytes holds nothing.", "Give bytes, or a size such as 2GiB.")
    return budget


def block_store_bytes(of: Profile) -> int:
    """Return how many bytes of unpacked blocks a process keeps: ``MDIVE_BLOCK_STORE``, else the profile's. Any number gives the same result."""
    given = _size("MDIVE_BLOCK_STORE")
    return of.block_store if given is None else max(given, 0)


def allowed_hosts() -> tuple[str, ...] | None:
    """Return the servers that files may come from, as patterns such as ``*.example.org``: ``MDIVE_HOSTS``; None where any may."""
    given = os.environ.get("MDIVE_HOSTS", "").replace(",", " ").lower().split()
    return tuple(given) or None


def available_memory() -> int:
    """Return how many bytes this process may still take: free on the machine, within its control groups and its address-space limit."""
    import psutil

    return max(0, min([psutil.virtual_memory().available, *_control_group_room(), *_address_space_room()]))


def _control_group_room(table: Path = CONTROL_GROUPS, root: Path = CONTROL_ROOT) -> Iterator[int]:
    """Yield the room under each memory limit on the way from this process's control group to the root; any level may set one."""
    for controllers, folder in _control_group_folders(table, root, "memory"):
        if controllers:
            limit, usage, reclaimable = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
        else:
            limit, usage, reclaimable = "memory.max", "memory.current", "inactive_file"
        # A level without the controller, or "max", sets no limit.
        with suppress(OSError, ValueError):
            most, used = int((folder / limit).read_text(encoding="utf-8")), int((folder / usage).read_text(encoding="utf-8"))
            rows = dict(row.split() for row in (folder / "memory.stat").read_text(encoding="utf-8").splitlines())
            yield most - used + int(rows.get(reclaimable, 0))


def _control_group_cores(table: Path = CONTROL_GROUPS, root: Path = CONTROL_ROOT) -> Iterator[float]:
    """Yield the share of cores that each level of this process's control groups grants; any level may set one."""
    for controllers, folder in _control_group_folders(table, root, "cpu"):
        with suppress(OSError, ValueError):
            if controllers:
                quota, period = (int((folder / f"cpu.cfs_{name}_us").read_text(encoding="utf-8")) for name in ("quota", "period"))
            else:
                quota, period = map(int, (folder / "cpu.max").read_text(encoding="utf-8").split())
            if quota > 0 and period > 0:
                yield quota / period


def _control_group_folders(table: Path, root: Path, controller: str) -> Iterator[tuple[str, Path]]:
    """Yield the folders of this process's control groups, upwards, each with its controllers' names (version 1; version 2 has none)."""
    try:
        # The name of a group is any bytes but a line's end.
        lines = table.read_text(encoding="utf-8", errors="surrogateescape").split("\n")
    except OSError:  # not Linux, or not mounted
        return
    for line in filter(None, lines):
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        base = root / controller if controllers else root
        group = base / path.lstrip("/")
        for folder in (group, *group.parents):
            yield controllers, folder
            if folder == base:
                break


def _address_space_room() -> Iterator[int]:
    if sys.platform == "win32":
        return
    import resource

    import psutil

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        yield limit - psutil.Process().memory_info().vms


def _whole_number(variable: str) -> int | None:
    text = os.environ.get(variable, "").strip()
    if not text:
        return None
    if not text.isdecimal():
        raise InputError(f"{variable}={text!r} is not a whole number.", f"Give one, such as {variable}=4, or unset it.")
    return int(text)


def _size(variable: str) -> int | None:
    text = os.environ.get(variable, "").strip()
    if not text:
        return None
    from dask.utils import parse_bytes

    try:
        return int(parse_bytes(text))
    except ValueError:
        raise InputError(f"{variable}={text!r} is not a size.", f"Give one, such as {variable}=2GiB, or unset it.") from None


GDAL_SETTINGS: Final[Mapping[str, str]] = MappingProxyType(
    {
        # No listing of the folder beside each file: one request instead of two, and no sidecar of a stranger.
        "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
        # GDAL never speaks to a network here; should a driver try to, nothing of such a name exists for it.
        "CPL_VSIL_CURL_ALLOWED_FILENAME": "none",
    }
)

GDAL_SKIPPED: Final = ("VRT", "WMS", "WMTS", "WCS", "STACIT", "STACTA", "GTI", "HTTP", "PLMosaic", "EEDAI")
"""Drivers that open other addresses than the one they were given: an href to a .vrt would make GDAL read any file of this machine."""


def gdal_settings(of: Profile) -> dict[str, str | int]:
    """Return the GDAL settings for reading (for ``rasterio.Env``), without those that the user set in the environment."""
    # The cache size is a number of bytes: rasterio hands it to a function of its own, not to the table of settings.
    wanted: dict[str, str | int] = {**GDAL_SETTINGS, "GDAL_CACHEMAX": of.gdal_cache}
    return {name: value for name, value in wanted.items() if name not in os.environ}


def protect_gdal() -> bool:
    """Switch off GDAL's drivers that follow references to other files, keeping whatever else the user's ``GDAL_SKIP`` switches off.

    Call it before rasterio is first used: GDAL reads the setting once, when it registers its drivers.

    Returns
    -------
    bool
        Whether it holds. False when GDAL had registered its drivers already; then only the check of each href protects.
    """
    asked = os.environ.get("GDAL_SKIP", "").replace(",", " ").split()
    os.environ["GDAL_SKIP"] = ",".join(dict.fromkeys((*asked, *GDAL_SKIPPED)))
    rasterio = sys.modules.get("rasterio")
    if rasterio is None:
        return True
    with rasterio.Env() as env:
        return not any(driver in env.drivers() for driver in GDAL_SKIPPED)


@cache
def settle_gdal() -> None:
    """Make those of GDAL's settings hold that belong to the whole process: what it may open, and what its block cache takes."""
    protect_gdal()
    size = gdal_settings(profile()).get("GDAL_CACHEMAX")
    if size is not None:
        from rasterio.env import set_gdal_config

        set_gdal_config("GDAL_CACHEMAX", size)


KEPT_FREE: Final = 16 * MIB
"""Bytes that the C library keeps free at the end of each of its heaps. Its own 128 KiB are less than one strip of a raster, so that each strip's
memory would be given back and taken anew, page by page: 5 % of a run's time."""

RETURNED_AT_ONCE: Final = 4 * MIB
"""Bytes from which a freed array goes back to the system at once. A tile's rasters are 1 to 64 MiB."""


@cache
def steady_memory() -> bool:
    """Keep glibc from keeping freed rasters: it raises its own limit to 32 MiB, and the process then grows with the run, not the tile.

    Returns
    -------
    bool
        Whether it could be done: with glibc, and where the user has set no limit of their own.
    """
    if not sys.platform.startswith("linux") or "MALLOC_MMAP_THRESHOLD_" in os.environ:
        return False
    import ctypes

    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
        return bool(mallopt(trim_threshold, KEPT_FREE) and mallopt(mmap_threshold, RETURNED_AT_ONCE))
    except AttributeError:  # another C library
        return False


def give_memory_back() -> None:
    """Return what was freed in small pieces to the system (glibc keeps it for the process): after a step that held very many of them."""
    if sys.platform.startswith("linux"):
        import ctypes

        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def find_kernel_cache() -> None:
    """Give numba a folder for compiled kernels where it would find none, and then refuse to work: a read-only installation without a home.

    A cache is code that is executed, so the folder belongs to this user alone. A setting of the user's own (``NUMBA_CACHE_DIR``) stays.
    """
    if "NUMBA_CACHE_DIR" in os.environ or os.access(Path(__file__).parent, os.W_OK) or os.access(Path("~").expanduser(), os.W_OK):
        return
    folder = Path(tempfile.gettempdir()) / f"mdive-kernels-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
            folder = Path(tempfile.mkdtemp(prefix="mdive-kernels-"))
    except OSError:
        return  # nothing can be written anywhere; the run will say so
    os.environ["NUMBA_CACHE_DIR"] = str(folder)
    if "numba" in sys.modules:
        sys.modules["numba"].config.reload_config()


def kernel_folder() -> Path | None:
    """Return the folder for the source of compiled loops, this user's alone; None where nothing can be written.

    It lies in numba's own folder (``NUMBA_CACHE_DIR``) where one is set, else in the user's cache (``XDG_CACHE_HOME``).
    """
    numba, cache = os.environ.get("NUMBA_CACHE_DIR"), os.environ.get("XDG_CACHE_HOME")
    home = Path(numba) if numba else (Path(cache) if cache else Path("~/.cache").expanduser()) / "mdive"
    folder = home / "fused"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        status = folder.lstat()
    except OSError:
        return None
    mine = not hasattr(os, "getuid") or (status.st_uid == os.getuid() and not status.st_mode & 0o022)
    return folder if stat.S_ISDIR(status.st_mode) and mine and os.access(folder, os.W_OK) else None
