// fhir-kit-client doing what its README shows: node kit.mjs OPEN_URL CLOSED_URL TOKEN

// One after the other: imports that are not awaited would run at the same time.
await import("./kit-resources.mjs");
await import("./kit-searches.mjs");
await import("./kit-exchanges.mjs");
