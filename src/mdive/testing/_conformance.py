"""The conformance kit: what every algorithm and operation promises, as named checks that a plugin's author can run."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final

from mdive.errors import InputError
from mdive.model.plan import Grid
from mdive.pipeline import Operation
from mdive.testing import _conformance_cost as cost
from mdive.testing import _conformance_declared as declared
from mdive.testing import _conformance_exact as exact
from mdive.testing import _conformance_kernels as kernels
from mdive.testing import _conformance_process as process
from mdive.testing import _conformance_tables as tables
from mdive.testing._conformance_data import LEAST, YEAR, scene, stack
from mdive.testing._conformance_report import Check, NotChecked, expecting, parametrize
from mdive.testing._conformance_subject import Subject, Target, Trial, reach_of, target_of

Promise = Callable[[Subject], None]

OPERATION_CHECKS: Final[tuple[Promise, ...]] = (
    declared.declaration,
    declared.parameters_documented,
    declared.parameters_checked,
    declared.pickles,
    exact.computes,
    exact.declared_equals_computed,
    kernels.kernels_keep_their_dtype,
    kernels.inputs_unchanged,
    kernels.halo_is_enough,
    kernels.halo_is_tight,
    cost.cost_declared,
    process.deterministic,
    process.same_in_another_process,
    exact.lazy_stays_lazy,
    exact.tiles_change_nothing,
    exact.chunks_change_nothing,
    exact.order_changes_nothing,
    exact.parts_merge_exactly,
)
"""What every operation promises."""

ALGORITHM_CHECKS: Final[tuple[Promise, ...]] = (
    *OPERATION_CHECKS,
    tables.class_table,
    tables.cf_equals_stac,
    tables.values_declared,
    tables.nodata_stays_nodata,
    tables.silence_has_a_reason,
)
"""What every algorithm promises."""

FINE: Final = 10.0
COARSE: Final = 30.0
"""Metres: windows that are given in metres have another depth on each."""


WIDEST: Final = 512
"""Pixels of the widest window, from edge to edge, that rasters are made for: on larger ones every check would take minutes."""


def check_algorithm(
    what: Any,
    *,
    data: Sequence[Any] | None = None,
    parameters: Mapping[str, Any] | None = None,
    expected_failures: Mapping[str, str] | None = None,
    tilings: int = 6,
    seed: int = 0,
) -> Iterator[Check]:
    """Yield the checks of an algorithm, or of an operation; each is called on its own.

    Parameters
    ----------
    what
        A name (as ``mdive.apply`` takes it), a function declared with ``@algorithm``, or an operation.
    data
        Rasters to check it on, as ``mdive.apply`` takes them. Default: made from the declaration, several sets, with all that goes wrong
        in real scenes.
    parameters
        Parameters of the algorithm or operation; what is left out has its default.
    expected_failures
        Why a check is known to fail, by its name. Strict: one that passes all the same is a failure.
    tilings
        Random partitions that are tried on each set of rasters, beside the nasty ones that always are.
    seed
        Of everything that is drawn.

    Raises
    ------
    UsageError
        For what is neither algorithm nor operation, and for an expected failure of a check that there is not.
    PluginError
        For a name that nobody has.

    Examples
    --------
    >>> from mdive.testing import check_algorithm, run_checks
    >>> outcomes = run_checks(check_algorithm("ndvi"))
    >>> [o for o in outcomes if o.status == "failed"]
    []
    """
    target = target_of(what)
    make = partial(_trials, target, data, dict(parameters or {}), seed)
    subject = Subject(target, make, seed=seed, tilings=tilings)
    promises = OPERATION_CHECKS if isinstance(target, Operation) else ALGORITHM_CHECKS
    checks = (Check(p.__name__, subject.name, partial(p, subject), (p.__doc__ or "").strip()) for p in promises)
    return expecting(checks, expected_failures)


def parametrize_checks(what: Any, **options: Any) -> Any:
    """Return a decorator that makes one test of pytest of each check of :func:`check_algorithm`; the test takes ``check`` and calls it.

    Parameters
    ----------
    what, **options
        As for :func:`check_algorithm`.
    """
    return parametrize(check_algorithm(what, **options))


def trial_of(
    target: Target,
    kind: str,
    resolution: float,
    *,
    shape: tuple[int, int] = (4, 4),
    parameters: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> Trial:
    """Return a target on rasters made for it; see ``_conformance_data.scene`` for the kinds."""
    given = dict(parameters or {})
    if isinstance(target, Operation):
        if lacking := [n for n, default in target.defaults.items() if default is inspect.Parameter.empty and n not in given]:
            raise NotChecked(f"operation {target.name!r} needs the parameter {lacking[0]!r}: give parameters=")
        return Trial(kind, target, stack(target, kind, shape, resolution, seed), given)
    trial = Trial(kind, target, scene(target, kind, shape, resolution, seed), given)
    try:
        trial.traced  # noqa: B018 - whether it wants more scenes
    except InputError:
        return Trial(kind, target, scene(target, kind, shape, resolution, seed, before=YEAR), given)
    except Exception:  # noqa: BLE001 - the check 'computes' says so
        return trial
    return trial


def _trials(target: Target, data: Sequence[Any] | None, parameters: Mapping[str, Any], seed: int) -> list[Trial]:
    if data is not None:
        return [Trial("given", target, data, parameters)]
    return [
        trial_of(target, kind, resolution, shape=shape_for(target, parameters, resolution), parameters=parameters, seed=seed)
        for kind, resolution in (("full", FINE), ("holes", FINE), ("bare", COARSE), ("silent", FINE))
    ]


def shape_for(target: Target, parameters: Mapping[str, Any], resolution: float) -> tuple[int, int]:
    """Return rows and columns that leave room around the widest window."""
    graph = trial_of(target, "full", resolution, parameters=parameters).graph
    room = 2 * reach_of(graph, Grid(crs="EPSG:32631", resolution=resolution, x0=0.0, y0=0.0, shape=LEAST))
    if room > WIDEST:
        raise NotChecked(f"{target.name} looks {room // 2} pixels far: give parameters= with a smaller window, or data=")
    return max(LEAST[0], room + LEAST[0] // 2), max(LEAST[1], room + LEAST[1] // 2)
