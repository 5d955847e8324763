"""Checks of the class tables, and of products against them: what a number means is said once, and holds for every pixel."""

from __future__ import annotations

import re

import numpy as np

from mdive.engine.lazy import cf_attributes
from mdive.errors import KernelError
from mdive.model.flags import QC_FLAGS, UNOBSERVED
from mdive.model.product import RasterSpec
from mdive.pipeline import Window
from mdive.plugins import AlgorithmSpec
from mdive.products.encoding import encode
from mdive.products.stac import bitfields_of, classes_of
from mdive.testing._conformance_declared import EXTENT, QUALITY
from mdive.testing._conformance_report import CheckFailed
from mdive.testing._conformance_subject import Subject, Trial

_WORD = re.compile(r"[A-Za-z][\w.+-]*")
"""What CF 1.11 (3.5) allows in ``flag_meanings``, words separated by blanks."""
_COLOR = re.compile(r"#[0-9A-Fa-f]{6}")


def class_table(subject: Subject) -> None:
    """Check that class values and flags are unique, fit their type and have words and colours; nodata is never a class that was seen."""
    for spec in _spec(subject).outputs:
        declared = f"the table of product {spec.name!r} of {subject.name!r}."
        limits = np.iinfo(spec.dtype) if spec.dtype != "float32" else None
        numbers = [c.value for c in spec.classes] + [f.mask for f in spec.flags]
        words = [c.name for c in spec.classes] + [f.name for f in spec.flags]
        if spec.name == EXTENT and not {c.role for c in spec.classes} - {"unobserved"}:
            raise CheckFailed(
                declared, "no class that says anything.", "Give it classes: of an event, those of role 'event' and 'background'."
            )
        if spec.name == QUALITY and any(QC_FLAGS.get(f.name) != f.mask for f in spec.flags):
            raise CheckFailed(
                declared, f"flags {[(f.name, f.mask) for f in spec.flags]}", "Take names and bits from mdive.plugins.QC_FLAGS."
            )
        if len(set(numbers)) < len(numbers) or len(set(words)) < len(words):
            raise CheckFailed(declared, f"values {numbers}, names {words}", "Give each class a value and a name of its own.")
        if limits is not None and any(not limits.min <= n <= limits.max for n in numbers):
            raise CheckFailed(declared, f"values {numbers}", f"{spec.dtype} holds {limits.min} to {limits.max}.")
        if bad := [w for w in words if not _WORD.fullmatch(w)]:
            raise CheckFailed(declared, f"names {bad}", "A name is one word of letters, digits and '_', as CF flag_meanings has it.")
        if bad := [c.color for c in spec.classes if not _COLOR.fullmatch(c.color)]:
            raise CheckFailed(declared, f"colours {bad}", "Write them as '#rrggbb'.")
        _nodata(spec, declared)


def cf_equals_stac(subject: Subject) -> None:
    """Check that CF flag attributes of the xarray product and the class table of its STAC item say the same."""
    for spec in _spec(subject).outputs:
        attrs = cf_attributes(spec)
        classes = [(c.value, c.name) for c in classes_of(spec)]
        bits = [((1 << b.length) - 1 << b.offset, b.name) for b in bitfields_of(spec)]
        words = str(attrs.get("flag_meanings", "")).split()
        for key, table in (("flag_values", classes), ("flag_masks", bits)):
            cf = list(zip(np.asarray(attrs.get(key, [])).tolist(), words if key in attrs else [], strict=False))
            if cf != table:
                raise CheckFailed(
                    f"STAC classes of {spec.name!r}: {table}",
                    f"CF {key}: {cf}",
                    "Give each class one word without blanks, and each flag whole bits.",
                )
            if key in attrs and attrs[key].dtype != np.dtype(spec.dtype):
                raise CheckFailed(
                    f"{spec.name!r} is {spec.dtype}", f"{key} is {attrs[key].dtype}", "Let the values fit the product's type."
                )


def values_declared(subject: Subject) -> None:
    """Check that products hold only declared classes, bits and numbers within their limits, and can be stored."""
    for trial in subject.trials:
        for spec in _spec(subject).outputs:
            block = trial.whole[spec.name]
            try:
                encode(spec, block, Window(0, 0, *block.shape))
            except KernelError as error:
                raise CheckFailed(
                    f"product {spec.name!r} of {subject.name!r}.", f"on rasters {trial.title!r}: {error.message}", error.hint
                ) from error


def nodata_stays_nodata(subject: Subject) -> None:
    """Check that where the bands of a phase that it needs hold nothing, or its mask says so, no class, number or probability is given."""
    spec = _spec(subject)
    for trial in subject.trials:
        for phase, bands in spec.needs.items():
            if not bands or (phase == "static" and len(spec.needs) > 1):
                continue
            blind = _blind(trial, phase, bands)
            if phase == "pre" and spec.needs.get("post"):
                # What is there now tells something without what was there before, if 'qc' says that it was not seen.
                blind = blind & (trial.whole[QUALITY] == 0)
            for output in spec.outputs:
                _silent(subject, trial, phase, output, blind)


def silence_has_a_reason(subject: Subject) -> None:
    """Check that where the class says nothing, 'qc' has a bit that tells why."""
    spec = _spec(subject)
    unobserved = [c.value for c in spec.outputs[0].classes if c.role == "unobserved"]
    for trial in subject.trials:
        silent = np.isin(trial.whole[EXTENT], unobserved) & (trial.whole[QUALITY] == 0)
        if silent.any():
            raise CheckFailed(
                f"'qc' of {subject.name!r} tells why a pixel has no class.",
                f"on rasters {trial.title!r}, {int(silent.sum())} pixels of class {np.unique(trial.whole[EXTENT][silent]).tolist()} have qc 0; the first is {_first(silent)}.",
                "Set a bit of QC_FLAGS: the one of the mask, or your own reason (edge_contaminated, hand_excluded, ...).",
            )


def _spec(subject: Subject) -> AlgorithmSpec:
    assert isinstance(subject.target, AlgorithmSpec)
    return subject.target


def _nodata(spec: RasterSpec, declared: str) -> None:
    kind = np.dtype(spec.dtype).kind
    if kind == "f" and spec.nodata != "nan":
        raise CheckFailed(
            declared, f"nodata {spec.nodata!r} of a {spec.dtype} product.", "nodata='nan': a number is no safe mark in measurements."
        )
    if spec.classes:
        role = next((c.role for c in spec.classes if c.value == spec.nodata), None)
        if role != "unobserved":
            what = "no class of the table" if role is None else f"a class of role {role!r}"
            raise CheckFailed(
                declared,
                f"nodata {spec.nodata} is {what}.",
                "Give nodata (255) a class of its own with role='unobserved': masked is never negative.",
            )


def _blind(trial: Trial, phase: str, bands: tuple[str, ...]) -> np.ndarray:
    """Return where no observation of a phase tells anything: each is masked, or has no number in any band."""
    numbers = trial.numbers
    empty = np.logical_and.reduce([~np.isfinite(numbers[phase, band]) for band in bands])
    found: np.ndarray = (empty | (numbers[phase, "mask"] & UNOBSERVED != 0)).all(axis=0)
    return found


def _silent(subject: Subject, trial: Trial, phase: str, output: RasterSpec, blind: np.ndarray) -> None:
    values = trial.whole[output.name]
    wrong, said = blind, "0"
    if output.flags and output.nodata is None:
        wrong = blind & (values == 0)
        todo = "Carry the bits of the mask into 'qc', and set QC_FLAGS['nodata'] where a band has no number."
    elif output.classes:
        unobserved = [c.value for c in output.classes if c.role == "unobserved"]
        wrong = blind & ~np.isin(values, unobserved)
        said = f"classes {sorted({c.name for c in output.classes if c.value in np.unique(values[wrong])})}"
        todo = f"Give them a class of role 'unobserved' ({unobserved}): what was not seen is never 'no'."
    elif values.dtype.kind == "f":
        wrong = blind & ~np.isnan(values)
        said = f"numbers from {np.min(values[wrong], initial=np.inf):g} to {np.max(values[wrong], initial=-np.inf):g}"
        todo = "Give NaN where nothing was seen."
    elif output.nodata is not None:
        wrong = blind & (values != output.nodata)
        said = f"values {np.unique(values[wrong]).tolist()}"
        todo = f"Give its nodata, {output.nodata:g}."
    else:
        return
    if wrong.any():
        raise CheckFailed(
            f"nothing is known of {int(blind.sum())} pixels of phase {phase!r} in rasters {trial.title!r}.",
            f"product {output.name!r} of {subject.name!r} has {said} at {int(wrong.sum())} of them; the first is {_first(wrong)}.",
            todo,
        )


def _first(where: np.ndarray) -> str:
    row, col = (int(i[0]) for i in np.nonzero(where))
    return f"row {row}, column {col}"
