"""The contracts of import-linter speak about libraries that are really there, and about all heavy ones."""

import re
import tomllib

from tracked_files import ROOT

_SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
_LIGHT = {"msgspec", "pyarrow", "numpy", "pydantic", "structlog", "pulseweir"}
_IMPORTED_AS = {
    "argon2-cffi": "argon2",
    "prometheus-client": "prometheus_client",
    "pydantic-settings": "pydantic_settings",
    "pyjwt": "jwt",
}
_BENEATH_OTHERS = {"httptools", "python-multipart", "tzdata"}
"""Installed for uvicorn, starlette and zoneinfo, which import them."""


def test_each_heavy_library_of_the_house_has_a_contract_about_its_door() -> None:
    installed = {re.split(r"[<>=;\[ ]", each)[0] for each in _SETTINGS["project"]["dependencies"]}
    needed = {_IMPORTED_AS.get(name, name) for name in installed} - _LIGHT - _BENEATH_OTHERS

    guarded = {
        library
        for contract in _SETTINGS["tool"]["importlinter"]["contracts"]
        for library in contract.get("forbidden_modules", [])
    }

    assert not needed - guarded


def test_each_dependency_is_imported_or_explained() -> None:
    source = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    installed = {re.split(r"[<>=;\[ ]", each)[0] for each in _SETTINGS["project"]["dependencies"]}
    names = {_IMPORTED_AS.get(name, name) for name in installed} - _BENEATH_OTHERS

    assert not [name for name in names if not re.search(rf"^\s*(?:import|from) {name}\b", source, re.MULTILINE)]
