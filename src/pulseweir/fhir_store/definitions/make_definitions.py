"""Makes the tables of this directory from HL7's package of R4 definitions and examples.

    python -m pulseweir.fhir_store.definitions.make_definitions [--package hl7.fhir.r4.examples-4.0.1.tgz]

Without ``--package`` the package is fetched with `npm pack`. To serve another type: add its name to `SERVED`, run
this, commit the tables. Source: npm package hl7.fhir.r4.examples 4.0.1, CC0-1.0.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pulseweir.errors import RefuseToStart
from pulseweir.fhir_store.definitions.search_expressions import NotUnderstoodError, branches, paths
from pulseweir.fhir_store.definitions.value_sets import FORMS, Codes, ValueSets

Json = dict[str, Any]
PACKAGE = "hl7.fhir.r4.examples@4.0.1"
HERE = Path(__file__).parent
SERVED = [
    "AllergyIntolerance",
    "AuditEvent",
    "Basic",
    "Binary",
    "Bundle",
    "CarePlan",
    "CareTeam",
    "Communication",
    "CommunicationRequest",
    "Condition",
    "Consent",
    "DetectedIssue",
    "Device",
    "DeviceMetric",
    "DeviceUseStatement",
    "DiagnosticReport",
    "Encounter",
    "EpisodeOfCare",
    "Flag",
    "Goal",
    "Group",
    "Location",
    "MedicationStatement",
    "Observation",
    "OperationOutcome",
    "Organization",
    "Patient",
    "Practitioner",
    "PractitionerRole",
    "Provenance",
    "RiskAssessment",
    "ServiceRequest",
    "Subscription",
    "Task",
]
"""The resource types the store serves. Others are known as contained resources and as entries of Bundles only."""

_WANTED = ("StructureDefinition-", "SearchParameter-", "ValueSet-", "CodeSystem-", "CompartmentDefinition-")
_PROFILES = "http://hl7.org/fhir/StructureDefinition/"
_REGEX = "http://hl7.org/fhir/StructureDefinition/regex"
_FHIR_TYPE = "http://hl7.org/fhir/StructureDefinition/structuredefinition-fhir-type"
_MAXIMUM_SET = "http://hl7.org/fhir/StructureDefinition/elementdefinition-maxValueSet"
_PARAMETERS = "http://hl7.org/fhir/SearchParameter/"
_ADDITIONS = {
    # Of R5, declared here for R4: without them a Flag cannot be found by what everybody asks it for.
    ("Flag", "status"): ("token", "Flag.status"),
    ("Flag", "category"): ("token", "Flag.category"),
    # R4 names the dateTime alone; periods are what a window writes, and no date search should miss them.
    ("RiskAssessment", "date"): ("date", "RiskAssessment.occurrence"),
    ("Provenance", "when"): ("date", "Provenance.occurred"),
    ("CommunicationRequest", "occurrence"): ("date", "CommunicationRequest.occurrence"),
}
"""Parameters of ours, and R4's own where we read more than they say."""


def fetch_package(directory: Path) -> Path:
    """Fetch the package with npm.

    Raises:
        RefuseToStart: npm is missing or its registry does not answer; pass --package instead.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise RefuseToStart("npm is not installed; install it or pass --package with the downloaded file.")
    command = [npm, "pack", "--silent", PACKAGE, "--pack-destination", str(directory)]
    done = subprocess.run(command, check=False, capture_output=True, timeout=300)  # noqa: S603 - fixed words
    found = sorted(directory.glob("*.tgz"))
    if done.returncode or not found:
        raise RefuseToStart("npm could not fetch the package; check the network or pass --package.")
    return found[0]


def read_package(package: Path, wanted: tuple[str, ...] = _WANTED) -> Iterator[Json]:
    """Every resource of the package whose file name starts with one of the wanted words, by file name."""
    with tarfile.open(package) as archive:
        members = {member.name.rpartition("/")[2]: member for member in archive.getmembers()}
        for name in sorted(members):
            content = archive.extractfile(members[name]) if name.startswith(wanted) else None
            if content is not None:
                yield json.loads(content.read())


def make_tables(package: Path) -> dict[str, str]:
    """The text of every table by its file name."""
    by_type: dict[str, list[Json]] = {}
    for resource in read_package(package):
        by_type.setdefault(resource["resourceType"], []).append(resource)
    elements, primitives, bindings = _elements(by_type["StructureDefinition"])
    value_sets = ValueSets(_by_url(by_type["ValueSet"]), _by_url(by_type["CodeSystem"]))
    codes: dict[str, Codes | str] = {}
    for url in sorted(bindings):
        codes[_set_name(url)] = FORMS.get(url) or value_sets.codes(url) or "any"
    resources = sorted(
        each["type"]
        for each in by_type["StructureDefinition"]
        if each["kind"] == "resource" and each.get("derivation") == "specialization" and not each["abstract"]
    )
    parameters, skipped = _search_parameters(by_type["SearchParameter"], elements)
    return {
        "elements.json": _text({"resources": resources, "primitives": primitives, "types": elements}),
        "codes.json": _text({"codes": codes}),
        "parameters.json": _text(
            {
                "served": SERVED,
                "parameters": parameters,
                "skipped": skipped,
                "compartments": _compartments(by_type["CompartmentDefinition"]),
            }
        ),
    }


def _by_url(resources: list[Json]) -> dict[str, Json]:
    return {resource["url"]: resource for resource in resources if "url" in resource}


def _set_name(url: str) -> str:
    return url.partition("|")[0].removeprefix("http://hl7.org/fhir/ValueSet/")


def _elements(definitions: list[Json]) -> tuple[dict[str, dict[str, Json]], dict[str, str], set[str]]:
    """(elements by type, regular expressions of the primitives, value sets of the required bindings)."""
    elements: dict[str, dict[str, Json]] = {}
    primitives: dict[str, str] = {}
    bindings: set[str] = set()
    for definition in definitions:
        if definition["kind"] == "primitive-type":
            primitives[definition["type"]] = _regex(definition)
        elif definition["kind"] != "logical" and definition.get("derivation") != "constraint":
            for element in definition["snapshot"]["element"]:
                owner, _, name = element["path"].rpartition(".")
                if owner:
                    elements.setdefault(owner, {})[name] = _element(element, bindings)
    for owner, named in elements.items():
        for name, element in named.items():
            path = f"{owner}.{name}"
            if path in elements:
                element["types"] = [path]
    return dict(sorted(elements.items())), dict(sorted(primitives.items())), bindings


def _regex(definition: Json) -> str:
    for kind in definition["snapshot"]["element"][-1].get("type", ()):
        for extension in kind.get("extension", ()):
            if extension["url"] == _REGEX:
                return str(extension["valueString"])
    return ""


def _element(element: Json, bindings: set[str]) -> Json:
    row: Json = {"types": _types(element)}
    if element["min"]:
        row["min"] = element["min"]
    if element["max"] != "1":
        row["max"] = element["max"]
    for flag, name in (("isSummary", "summary"), ("isModifier", "modifier")):
        if element.get(flag):
            row[name] = True
    targets = sorted(
        {
            target.removeprefix(_PROFILES)
            for kind in element.get("type", ())
            if kind["code"] == "Reference"
            for target in kind.get("targetProfile", ())
        }
    )
    if targets and targets != ["Resource"]:
        row["targets"] = targets
    url = _required_set(element.get("binding", {}))
    if url:
        bindings.add(url)
        row["codes"] = _set_name(url)
    return row


def _required_set(binding: Json) -> str | None:
    """The value set whose codes are the only ones; also the widest set of a milder binding, if it has one."""
    url = binding.get("valueSet") if binding.get("strength") == "required" else None
    for extension in binding.get("extension", ()):
        if extension["url"] == _MAXIMUM_SET:
            url = extension.get("valueCanonical")
    return url.partition("|")[0] if url else None


def _types(element: Json) -> list[str]:
    if "contentReference" in element:
        return [element["contentReference"].removeprefix("#")]
    found = []
    for kind in element.get("type", ()):
        code = kind["code"]
        for extension in kind.get("extension", ()):
            if extension["url"] == _FHIR_TYPE:
                code = extension["valueUrl"]
        if code == "Quantity" and kind.get("profile") == [_PROFILES + "SimpleQuantity"]:
            code = "SimpleQuantity"
        found.append("string" if code.startswith("http://hl7.org/fhirpath/") else code)
    return found


def _search_parameters(
    definitions: list[Json], elements: dict[str, dict[str, Json]]
) -> tuple[dict[str, dict[str, Json]], list[str]]:
    """(parameters by type and name, what could not be compiled)."""
    rows: dict[str, dict[str, Json]] = {name: {} for name in ["Resource", *SERVED]}
    skipped = []
    by_url = _by_url(definitions)
    for definition in definitions:
        if not definition["url"].startswith(_PARAMETERS):
            continue
        for base in sorted(set(definition.get("base", ())) & rows.keys()):
            if definition["id"].startswith("example"):
                continue
            try:
                rows[base][definition["code"]] = _parameter(definition, base, elements, by_url)
            except NotUnderstoodError as error:
                skipped.append(f"{base}.{definition['code']}: {error}")
    for (base, name), (kind, expression) in _ADDITIONS.items():
        row = {"type": kind, "paths": _all_paths(expression, base, kind, elements)}
        rows[base][name] = rows[base].get(name, {}) | row
    return {base: dict(sorted(named.items())) for base, named in rows.items()}, sorted(skipped)


def _parameter(definition: Json, base: str, elements: dict[str, dict[str, Json]], by_url: dict[str, Json]) -> Json:
    kind = definition["type"]
    row: Json = {"type": kind}
    targets = sorted(definition.get("target", ()))
    if targets:
        row["targets"] = targets
    if kind == "composite":
        return row | _composite(definition, base, elements, by_url)
    expression = definition.get("expression")
    if not expression:
        raise NotUnderstoodError("no expression")
    row["paths"] = _all_paths(expression, base, kind, elements)
    return row


def _all_paths(expression: str, base: str, kind: str, elements: dict[str, dict[str, Json]]) -> list[Json]:
    own = [part for part in branches(expression) if part.lstrip("(").partition(".")[0] == base]
    own = own or [part for part in branches(expression) if base == "Resource"]
    found = [path for part in own for path in paths(part, base, elements)]
    fitting = _fitting(found, kind)
    if not fitting:
        raise NotUnderstoodError(expression)
    return fitting


def _fitting(found: list[Json], kind: str) -> list[Json]:
    return [path for path in found if path["type"] in _FITTING[kind]] if kind in _FITTING else found


_FITTING = {
    "date": {"date", "dateTime", "instant", "Period", "Timing"},
    "string": {"string", "markdown", "HumanName", "Address"},
    "token": {
        *("code", "string", "boolean", "id", "uri", "canonical", "Coding", "CodeableConcept", "Identifier"),
        *("ContactPoint", "dateTime"),
    },
    "number": {"decimal", "integer", "positiveInt", "unsignedInt", "Range"},
    "quantity": {"Quantity", "SimpleQuantity", "Age", "Duration", "Money", "Range", "SampledData"},
    "reference": {"Reference", "canonical", "uri", "url", "Resource"},
}
"""Data types whose values a kind of parameter can compare; the other types of a choice are left out."""


def _composite(definition: Json, base: str, elements: dict[str, dict[str, Json]], by_url: dict[str, Json]) -> Json:
    roots = []
    for part in branches(definition["expression"]):
        root = part.removeprefix(base).removeprefix(".")
        owner = f"{base}.{root}" if root else base
        components = []
        for component in definition["component"]:
            named = by_url[component["definition"]]
            texts = branches(component["expression"])
            found = [path for text in texts for path in paths(text, owner, elements)]
            components.append({"type": named["type"], "paths": _fitting(found, named["type"])})
        roots.append({"path": root, "components": components})
    return {"roots": roots}


def _compartments(definitions: list[Json]) -> dict[str, dict[str, list[str]]]:
    """Parameters that bind a type to a compartment, by compartment and type; `{def}` is the resource itself."""
    return {
        definition["code"]: {
            resource["code"]: resource["param"]
            for resource in definition["resource"]
            if resource.get("param") and resource["code"] in SERVED
        }
        for definition in definitions
        if not definition["id"].startswith("example") and definition["code"] in SERVED
    }


def _text(table: Json) -> str:
    """JSON with one row a line, so that a change of the definitions reads as one."""
    lines = []
    for name, rows in table.items():
        if isinstance(rows, dict):
            inner = ",\n".join(f"{json.dumps(key)}: {_rows(value)}" for key, value in rows.items())
            lines.append(f"{json.dumps(name)}: {{\n{inner}\n}}")
        else:
            lines.append(f"{json.dumps(name)}: {json.dumps(rows, separators=(',', ':'))}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _rows(value: Any) -> str:
    if isinstance(value, dict) and any(isinstance(each, dict) for each in value.values()):
        inner = ",\n".join(
            f" {json.dumps(key)}: {json.dumps(row, separators=(',', ':'))}" for key, row in value.items()
        )
        return f"{{\n{inner}\n}}"
    return json.dumps(value, separators=(",", ":"))


def main() -> None:
    """Write the tables."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--package", type=Path, help="the downloaded package")
    chosen = arguments.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        package = chosen.package or fetch_package(Path(directory))
        for name, text in make_tables(package).items():
            (HERE / name).write_text(text, encoding="utf-8")
            sys.stdout.write(f"{name}: {len(text):,} characters\n")


if __name__ == "__main__":
    main()
