// fhirclient (SMART JS) doing what its README shows on a server: node smart.mjs OPEN_URL CLOSED_URL TOKEN
//
// The token is bound to Patient eve, for reading.

import { createServer } from "node:http";
import smart from "fhirclient";
import { entries, heartRate, refused, step } from "./steps.mjs";

const [openUrl, closedUrl, token] = process.argv.slice(2);
const SCOPE = "launch/patient patient/*.rs";
const REGISTERED = { client_id: "my_web_app", scope: SCOPE, redirectUri: "/" };

/** A web application that launches with settings, and what it answers when it is opened at a place. */
async function launched(settings, place) {
  const session = {};
  let client;
  const application = createServer((request, response) => {
    request.session = session;
    const asked = smart(request, response);
    const done = request.url.startsWith("/launch")
      ? asked.authorize({ ...REGISTERED, ...settings })
      : asked.ready().then((found) => {
          client = found;
          response.end("ready");
        });
    done.catch((error) => response.writeHead(500).end(String(error)));
  });
  await new Promise((resolve) => application.listen(0, "127.0.0.1", resolve));
  try {
    const origin = `http://127.0.0.1:${application.address().port}`;
    const first = await fetch(`${origin}/launch${place}`, { redirect: "manual" });
    const redirected = first.headers.get("location");
    let shown = await first.text();
    if (redirected?.startsWith(origin)) shown = await (await fetch(redirected)).text();
    return { client, redirected, shown };
  } finally {
    application.closeAllConnections();
    await new Promise((resolve) => application.close(resolve));
  }
}

const outcome = async (attempt) => {
  const error = await refused(attempt);
  return { name: error.name, status: error.status, code: /"code": "([a-z-]+)"/.exec(error.message)?.[1] };
};

// --- launch

let client;

await step("launch on an open server", async () => {
  const context = { patientId: "eve", encounterId: "stay" };
  const launch = await launched(context, `?iss=${encodeURIComponent(openUrl)}`);
  client = launch.client;
  return {
    shown: launch.shown,
    patient: client.patient.id,
    encounter: client.encounter.id,
    server: client.state.serverUrl === openUrl,
  };
});

await step("launch on a closed server", async () => {
  const { redirected } = await launched({}, `?iss=${encodeURIComponent(closedUrl)}&launch=xyz`);
  const { origin, pathname, searchParams } = new URL(redirected);
  return {
    at: origin + pathname,
    aud: searchParams.get("aud") === closedUrl,
    pkce: searchParams.get("code_challenge_method"),
  };
});

// --- one resource

await step("version of FHIR", async () => [await client.getFhirVersion(), await client.getFhirRelease()]);

const patient = { resourceType: "Patient", name: [{ family: "Smith", given: ["Jane"] }] };

await step("create", async () => {
  const made = await client.create(patient);
  const { body, response } = await client.create(patient, { includeResponse: true });
  return {
    version: made.meta.versionId,
    status: response.status,
    fresh: body.id !== made.id,
    located: response.headers.get("location") === `${openUrl}/Patient/${body.id}/_history/1`,
  };
});

await step("update", async () => {
  const { response } = await client.update({ ...patient, id: "eve" }, { includeResponse: true });
  const updated = await client.update({ ...patient, id: "eve", birthDate: "1990-01-01" });
  return { first: response.status, version: updated.meta.versionId, born: updated.birthDate };
});

await step("patch", async () => {
  // The client asks for "return=presentation", which no server knows.
  const patched = await client.patch("Patient/eve", [{ op: "add", path: "/active", value: true }]);
  return { version: patched.meta.versionId, active: patched.active };
});

await step("delete", async () => {
  await client.update({ ...patient, id: "gone" });
  const { response } = await client.delete("Patient/gone", { includeResponse: true });
  return { status: response.status, then: await outcome(() => client.request("Patient/gone")) };
});

// --- requests

await step("request", async () => {
  const found = await client.request("Patient/eve");
  const { response } = await client.request({ url: "Patient/eve", includeResponse: true });
  const absolute = await client.request(`${openUrl}/Patient/eve`);
  const kept = await client
    .request({ url: "Patient/eve", headers: { "If-None-Match": 'W/"3"' }, includeResponse: true })
    .catch((error) => error);
  return {
    ids: [found.id, absolute.id],
    status: response.status,
    etag: response.headers.get("etag"),
    unchanged: kept.status,
  };
});

await step("errors", async () => [
  await outcome(() => client.request("Patient/never")),
  await outcome(() => client.request("Observation?date=2023-02-30")),
  await outcome(() => client.request("Claim")),
  await outcome(() => client.create({ resourceType: "Patient", gender: "x" })),
  await outcome(() => client.update({ ...patient, id: "eve" }, { headers: { "If-Match": 'W/"1"' } })),
  await outcome(() => client.patch("Patient/eve", [{ op: "test", path: "/active", value: false }])),
]);

await step("XML", () =>
  outcome(() => client.request({ url: "Patient/eve", headers: { accept: "application/fhir+xml" } })),
);

// --- paging and references

await step("what is looked for", async () => {
  const subject = { reference: "Patient/eve" };
  const encounter = { reference: "Encounter/stay" };
  const ward = { system: "http://terminology.hl7.org/CodeSystem/v3-ActCode", code: "IMP" };
  const stay = { resourceType: "Encounter", id: "stay", status: "in-progress", class: ward, subject };
  const rates = [0, 1, 2, 3, 4].map((minute) => ({
    ...heartRate(`hr-${minute}`, subject.reference, minute),
    encounter,
  }));
  const stored = [];
  for (const body of [stay, ...rates, heartRate("hr-other", "Patient/other", 9)])
    stored.push(await client.update(body));
  return stored.length;
});

const QUERY = "Observation?patient=eve&_sort=date&_count=2";

await step("first page", async () => entries(await client.request(QUERY)));

await step("all pages, flat", async () => {
  const all = await client.request(QUERY, { pageLimit: 0, flat: true });
  return all.map(({ id }) => id);
});

await step("two pages", async () => {
  const pages = await client.request(QUERY, { pageLimit: 2 });
  return pages.map(entries);
});

await step("page by page", async () => {
  const pages = [];
  const nothing = await client.request(QUERY, { pageLimit: 0, onPage: (page) => void pages.push(entries(page)) });
  return { nothing, pages };
});

await step("generators of pages and resources", async () => {
  const sizes = [];
  for await (const page of client.pages(QUERY)) sizes.push(page.entry.length);
  const ids = [];
  for await (const { id } of client.resources(QUERY, { limit: 3 })) ids.push(id);
  return { sizes, ids };
});

await step("references in place", async () => {
  const found = await client.request("Observation/hr-0", {
    resolveReferences: ["subject", "encounter", "encounter.subject"],
  });
  return [found.subject.id, found.encounter.id, found.encounter.subject.id];
});

await step("references apart", async () => {
  const { data, references } = await client.request(QUERY, {
    pageLimit: 0,
    flat: true,
    graph: false,
    resolveReferences: ["subject", "encounter"],
  });
  return { found: data.length, references: Object.keys(references).sort() };
});

await step("references of a resource at hand", async () => {
  const found = await client.request("Observation/hr-0");
  const apart = await client.getReferences(found, ["subject"]);
  await client.resolveReferences(found, ["subject"]);
  return { apart: Object.keys(apart), inPlace: found.subject.resourceType };
});

// --- the patient of the launch

await step("patient and encounter of the launch", async () => {
  const [who, where] = [await client.patient.read(), await client.encounter.read()];
  return [who.id, where.id];
});

await step("request about the patient", async () => {
  const found = await client.patient.request("Observation?_sort=-date&_count=2", { pageLimit: 0, flat: true });
  const stays = await client.patient.request("Encounter");
  const who = await client.patient.request("Patient");
  return { observations: found.map(({ id }) => id), encounters: entries(stays), patients: entries(who) };
});

await step("request about the patient for every type", async () => {
  const { rest } = await client.request("metadata");
  const answered = [];
  for (const { type } of rest[0].resource) {
    const bundle = await client.patient.request(`${type}?_summary=count`).catch((error) => error);
    if (bundle.resourceType === "Bundle") answered.push(type);
    else if (!/Cannot filter|what param/.test(bundle.message)) throw bundle;
  }
  return answered.sort();
});

// --- a token bound to the patient

await step("closed server without a token", async () => {
  const { client: stranger } = await launched({}, `?fhirServiceUrl=${encodeURIComponent(closedUrl)}`);
  const error = await refused(() => stranger.request("Patient/eve"));
  return { status: error.status, launch: error.message.includes("Please launch it as SMART app") };
});

const tokenResponse = { access_token: token, token_type: "bearer", patient: "eve", scope: SCOPE };

await step("closed server with a token of one patient", async () => {
  const { client: known } = await launched(
    { fakeTokenResponse: tokenResponse },
    `?fhirServiceUrl=${encodeURIComponent(closedUrl)}`,
  );
  const mine = await known.patient.request("Observation", { pageLimit: 0, flat: true });
  const all = await known.request("Observation?_sort=date", {
    pageLimit: 0,
    flat: true,
    resolveReferences: ["subject"],
  });
  return {
    patient: (await known.patient.read()).id,
    mine: mine.map(({ id }) => id),
    all: all.map(({ id, subject }) => [id, subject.id]),
    other: await outcome(() => known.request("Patient/other")),
    write: await outcome(() =>
      known.create(heartRate(null, "Patient/eve", 1), { headers: { authorization: `Bearer ${token}` } }),
    ),
  };
});
