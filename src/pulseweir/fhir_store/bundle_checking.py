"""Resources of a bundle checked before the writer gets it, so that its transaction is short."""

import asyncio

from pulseweir.fhir_store.bundle_entries import BundleRequest, Entry
from pulseweir.fhir_store.bundle_links import has_search
from pulseweir.fhir_store.interactions import check_incoming
from pulseweir.fhir_store.settings import FhirStoreSettings

_ENTRIES_AT_ONCE = 20
"""Checked in about a millisecond; then other requests have their turn."""


async def check_entries(request: BundleRequest, settings: FhirStoreSettings) -> None:
    """Check every resource whose text is final; one that links to other entries is checked once these have ids.

    What is refused is refused when its entry's turn comes, so that the answer is the same.
    """
    for place, entry in enumerate(request.entries):
        if _is_final(entry, is_transaction=request.is_transaction) and entry.tree is not None:
            try:
                entry.checked = check_incoming(entry.tree, entry.text, entry.path[0], settings)
            except Exception as error:  # noqa: BLE001 - whatever it is concerns this entry, when its turn comes
                entry.checked = error
        if place % _ENTRIES_AT_ONCE == _ENTRIES_AT_ONCE - 1:
            await asyncio.sleep(0)


def _is_final(entry: Entry, *, is_transaction: bool) -> bool:
    if entry.request.method not in {"POST", "PUT"} or not entry.path or entry.path[-1].startswith("$"):
        return False
    return not is_transaction or not (b'"urn:' in entry.text or has_search(entry.text))
