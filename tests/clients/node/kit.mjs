// fhir-kit-client doing what its README shows: node kit.mjs OPEN_URL CLOSED_URL TOKEN

import { CapabilityTool, Client } from "fhir-kit-client";
import { entries, heartRate, refused, step } from "./steps.mjs";

const [openUrl, closedUrl, token] = process.argv.slice(2);
const client = new Client({ baseUrl: openUrl });
const SYSTEM = "https://example.org/ids";

function patient(family, value, more = {}) {
  return {
    resourceType: "Patient",
    identifier: [{ system: SYSTEM, value }],
    name: [{ family, given: ["Jane"] }],
    ...more,
  };
}

const http = (answer) => {
  const { response } = Client.httpFor(answer);
  return { status: response.status, etag: response.headers.get("etag") };
};
const status = async (attempt) => (await refused(attempt)).response.status;
const outcome = async (attempt) => {
  const { response } = await refused(attempt);
  return { status: response.status, type: response.data.resourceType, code: response.data.issue[0].code };
};

// --- what the server says of itself

await step("capability statement", async () => {
  const statement = await client.capabilityStatement();
  const tool = new CapabilityTool(statement);
  return {
    version: statement.fhirVersion,
    server: ["transaction", "batch", "search-system", "history-system"].map((code) => tool.serverCan(code)),
    interactions: tool.interactionsFor({ resourceType: "Patient" }).sort(),
    create: tool.resourceCan("Patient", "create"),
    birthdate: tool.resourceSearch("Patient", "birthdate"),
    parameters: tool.searchParamsFor({ resourceType: "Observation" }).includes("code-value-quantity"),
    unknown: tool.resourceCan("Claim", "read"),
    conditional: [
      tool.capabilityContents({ resourceType: "Patient", capabilityType: "conditionalCreate" }),
      tool.capabilityContents({ resourceType: "Patient", capabilityType: "conditionalUpdate" }),
      tool.capabilityContents({ resourceType: "Patient", capabilityType: "conditionalDelete" }),
    ],
  };
});

await step("smart metadata of an open server", async () => {
  const { authorizeUrl, tokenUrl, registerUrl } = await client.smartAuthMetadata();
  return [authorizeUrl, tokenUrl, registerUrl].map((url) => url?.href ?? null);
});

await step("smart metadata of a closed server", async () => {
  const { authorizeUrl, tokenUrl } = await new Client({ baseUrl: closedUrl }).smartAuthMetadata();
  return [authorizeUrl.href, tokenUrl.href];
});

await step("probe of OpenID configuration", () => status(() => client.request(".well-known/openid-configuration")));

// --- one resource

let created;

await step("create", async () => {
  created = await client.create({ resourceType: "Patient", body: patient("Smith", "smith") });
  const { response } = Client.httpFor(created);
  const location = response.headers.get("location");
  return { ...http(created), family: created.name[0].family, at: location === `${openUrl}/Patient/${created.id}/_history/1` };
});

await step("create with a minimal answer", async () => {
  const minimal = await client.create({
    resourceType: "Patient",
    body: patient("Minimal", "minimal"),
    options: { headers: { Prefer: "return=minimal" } },
  });
  const { response } = Client.httpFor(minimal);
  const found = await client.request(response.headers.get("location"));
  return { status: response.status, members: Object.keys(minimal).length, family: found.name[0].family };
});

await step("create of what there is already", async () => {
  const again = await client.create({
    resourceType: "Patient",
    body: patient("Other", "smith"),
    options: { headers: { "If-None-Exist": `identifier=${SYSTEM}|smith` } },
  });
  return { status: http(again).status, same: again.id === created.id };
});

await step("read", async () => {
  const found = await client.read({ resourceType: "Patient", id: created.id });
  return { ...http(found), family: found.name[0].family, same: found.id === created.id };
});

await step("update", async () => {
  const body = { ...created, birthDate: "1980-02-29" };
  const updated = await client.update({ resourceType: "Patient", id: created.id, body });
  return { ...http(updated), born: updated.birthDate };
});

await step("vread", async () => {
  const first = await client.vread({ resourceType: "Patient", id: created.id, version: "1" });
  return { ...http(first), born: first.birthDate ?? null };
});

await step("update under a new id", async () => {
  const body = { ...patient("Eve", "eve"), id: "eve", birthDate: "1990-01-01" };
  return http(await client.update({ resourceType: "Patient", id: "eve", body }));
});

await step("update of a version that is past", () =>
  outcome(() => {
    const options = { headers: { "If-Match": 'W/"1"' } };
    return client.update({ resourceType: "Patient", id: created.id, body: created, options });
  }),
);

await step("conditional update", async () => {
  const searchParams = { identifier: `${SYSTEM}|smith` };
  const body = patient("Smith-Jones", "smith", { birthDate: "1980-02-29" });
  const updated = await client.update({ resourceType: "Patient", searchParams, body });
  return { ...http(updated), same: updated.id === created.id, family: updated.name[0].family };
});

await step("patch", async () => {
  const jsonPatch = [
    { op: "add", path: "/active", value: true },
    { op: "replace", path: "/active", value: false },
    { op: "add", path: "/name/-", value: { use: "nickname", text: "Jay" } },
  ];
  const patched = await client.patch({ resourceType: "Patient", id: created.id, jsonPatch });
  return { ...http(patched), active: patched.active, names: patched.name.length };
});

await step("patch that does not apply", () => {
  const jsonPatch = [{ op: "test", path: "/active", value: true }];
  return outcome(() => client.patch({ resourceType: "Patient", id: created.id, jsonPatch }));
});

await step("delete", async () => {
  await client.update({ resourceType: "Patient", id: "gone", body: { ...patient("Gone", "gone"), id: "gone" } });
  return http(await client.delete({ resourceType: "Patient", id: "gone" })).status;
});

await step("read of what is deleted", () => outcome(() => client.read({ resourceType: "Patient", id: "gone" })));
await step("read of what never was", () => outcome(() => client.read({ resourceType: "Patient", id: "never" })));
await step("create of what is wrong", () =>
  outcome(() => client.create({ resourceType: "Patient", body: { resourceType: "Patient", gender: "x" } })),
);

await step("raw requests", async () => {
  const options = { headers: { "Content-Type": "application/fhir+json" } };
  const posted = await client.request("Patient", { method: "POST", body: patient("Raw", "raw"), options });
  const found = await client.request(`Patient/${posted.id}`);
  const deleted = await client.request(`Patient/${posted.id}`, { method: "DELETE" });
  return [posted, found, deleted].map((answer) => http(answer).status);
});

// Without a type fetch says text/plain, which any web page may send to a server on loopback.
await step("raw request that does not say what it sends", () =>
  outcome(() => client.request("Patient", { method: "POST", body: patient("Raw", "raw") })),
);

// --- bundles

const post = (resource, fullUrl, request = {}) => ({
  fullUrl,
  resource,
  request: { method: "POST", url: resource.resourceType, ...request },
});
const put = (resource) => ({ resource, request: { method: "PUT", url: `${resource.resourceType}/${resource.id}` } });

await step("transaction", async () => {
  const mine = "urn:uuid:6f1a54c2-5a0e-4f0e-9d5c-0a5a86a4b1f0";
  const bundle = {
    resourceType: "Bundle",
    type: "transaction",
    entry: [
      post(heartRate(null, mine, 30)),
      post(patient("Born", "born"), mine),
      post(patient("Again", "eve"), undefined, { ifNoneExist: `identifier=${SYSTEM}|eve` }),
      put({ ...patient("Ward", "ward"), id: "ward" }),
    ],
  };
  const answer = await client.transaction({ body: bundle });
  const observation = await client.request(answer.entry[0].response.location);
  const { url } = Client.httpFor(answer).request;
  return {
    sentTo: url.slice(openUrl.length),
    type: answer.type,
    statuses: answer.entry.map((entry) => entry.response.status.slice(0, 3)),
    linked: answer.entry[1].response.location.includes(`/${observation.subject.reference}/_history/`),
  };
});

await step("transaction of more than 64 KiB", async () => {
  const ids = Array.from({ length: 300 }, (_, index) => `many-${index}`);
  const entry = ids.map((id, index) => put(heartRate(id, "Patient/ward", index % 60)));
  const body = { resourceType: "Bundle", type: "transaction", entry };
  const answer = await client.transaction({ body, options: { keepalive: false } });
  return { large: JSON.stringify(body).length > 65536, created: answer.entry.filter((each) => each.response.etag).length };
});

await step("transaction that fails as a whole", async () => {
  const entry = [put({ ...patient("Half", "half"), id: "half" }), put({ ...patient("Bad", "bad", { gender: "x" }), id: "bad" })];
  const failed = await outcome(() => client.transaction({ body: { resourceType: "Bundle", type: "transaction", entry } }));
  return { ...failed, stored: (await client.search({ resourceType: "Patient", searchParams: { _id: "half" } })).total };
});

await step("batch", async () => {
  const entry = [
    { request: { method: "GET", url: "Patient/eve" } },
    { request: { method: "GET", url: "Observation?patient=ward&_count=5" } },
    { request: { method: "GET", url: "Patient/never" } },
    put({ ...patient("Batch", "batch"), id: "batch" }),
  ];
  const answer = await client.batch({ body: { resourceType: "Bundle", type: "batch", entry } });
  const [read, found, missing, stored] = answer.entry;
  return {
    type: answer.type,
    statuses: [read, found, missing, stored].map((each) => each.response.status.slice(0, 3)),
    read: read.resource.id,
    found: found.resource.entry.length,
    outcome: missing.response.outcome.resourceType,
  };
});

// --- searches

for (let minute = 0; minute < 5; minute += 1) {
  const body = heartRate(`hr-${minute}`, "Patient/eve", minute);
  await client.update({ resourceType: "Observation", id: body.id, body });
}

await step("search", async () => {
  const searchParams = { name: "Eve", birthdate: ["ge1989-12-31", "lt1990-01-02"], _count: "20" };
  const bundle = await client.search({ resourceType: "Patient", searchParams });
  return { type: bundle.type, total: bundle.total, found: entries(bundle), mode: bundle.entry[0].search.mode };
});

await step("search with what belongs to it", async () => {
  const searchParams = { _id: "hr-0", _include: "Observation:patient", _elements: "code,subject" };
  return entries(await client.resourceSearch({ resourceType: "Observation", searchParams }));
});

await step("search by POST", async () => {
  const identifiers = Array.from({ length: 300 }, (_, index) => `${SYSTEM}|no-such-patient-${index}`);
  const bundle = await client.search({
    resourceType: "Patient",
    searchParams: { identifier: [...identifiers, `${SYSTEM}|eve`].join(",") },
    options: { postSearch: true },
  });
  return { found: entries(bundle), sentTo: Client.httpFor(bundle).request.url.slice(openUrl.length) };
});

await step("system search", async () => {
  const searchParams = { _type: "Patient,Observation", _id: "eve,hr-0" };
  const byGet = await client.search({ searchParams });
  const byPost = await client.systemSearch({ searchParams, options: { postSearch: true } });
  return [entries(byGet).sort(), entries(byPost).sort(), new URL(Client.httpFor(byGet).request.url).pathname];
});

await step("compartment search", async () => {
  const compartment = { resourceType: "Patient", id: "eve" };
  const searchParams = { code: "http://loinc.org|8867-4", _sort: "-date", _count: "2" };
  const byGet = await client.search({ resourceType: "Observation", compartment, searchParams });
  const options = { postSearch: true };
  const byPost = await client.compartmentSearch({ resourceType: "Observation", compartment, searchParams, options });
  const none = await client.compartmentSearch({ resourceType: "Condition", compartment });
  return [entries(byGet), entries(byPost), none.total];
});

await step("search that is not understood", () =>
  outcome(() => client.search({ resourceType: "Observation", searchParams: { date: "2023-02-30" } })),
);

const searchParams = { patient: "eve", _sort: "date", _count: "2" };

/** Page after page, as the README walks them. */
async function pages(from, first) {
  const seen = [];
  let bundle = first;
  while (bundle) {
    seen.push(bundle);
    bundle = await from.nextPage({ bundle });
  }
  return seen;
}

await step("next pages", async () => {
  const seen = await pages(client, await client.search({ resourceType: "Observation", searchParams }));
  return seen.map(entries);
});

await step("next pages under another name of the server", async () => {
  const named = new Client({ baseUrl: openUrl.replace("127.0.0.1", "localhost") });
  const seen = await pages(named, await named.search({ resourceType: "Observation", searchParams }));
  const links = seen.flatMap((bundle) => bundle.link.map((link) => link.url));
  return { pages: seen.length, asAsked: links.every((url) => url.startsWith(`${named.baseUrl}/`)) };
});

await step("next pages of a search by POST", async () => {
  const options = { postSearch: true };
  const seen = await pages(client, await client.search({ resourceType: "Observation", searchParams, options }));
  return seen.map(entries);
});

await step("previous page", async () => {
  const first = await client.search({ resourceType: "Observation", searchParams });
  const second = await client.nextPage({ bundle: first });
  const back = await client.prevPage({ bundle: second });
  return { ofFirst: (await client.prevPage({ bundle: first })) === undefined, back: back ? entries(back) : null };
});

// --- history

const versions = (bundle) => bundle.entry.map((each) => `${each.request.method} ${each.response.status.slice(0, 3)}`);

await step("history of an instance", async () => {
  const bundle = await client.history({ resourceType: "Patient", id: "gone" });
  const mine = await client.history({ resourceType: "Patient", id: created.id });
  return { type: bundle.type, total: bundle.total, versions: versions(bundle), mine: mine.entry.map((each) => each.resource.meta.versionId) };
});

await step("history of a type", async () => {
  const bundle = await client.history({ resourceType: "Patient" });
  return { type: bundle.type, types: [...new Set(bundle.entry.map((each) => each.fullUrl.split("/").at(-2)))], newest: versions(bundle)[0] };
});

await step("history of everything", async () => {
  const bundle = await client.history();
  const all = await pages(client, bundle);
  return { type: bundle.type, total: bundle.total, walked: all.flatMap((page) => page.entry).length === bundle.total };
});

// --- operations

await step("$validate", async () => {
  const valid = await client.operation({ name: "validate", resourceType: "Patient", input: patient("Raw", "raw") });
  const input = { resourceType: "Patient", gender: "x" };
  const invalid = await client.operation({ name: "$validate", resourceType: "Patient", input });
  const worst = ({ issue }) => issue.map((each) => each.severity).includes("error");
  return { answers: [valid.resourceType, invalid.resourceType], errors: [worst(valid), worst(invalid)] };
});

await step("$everything", async () => {
  // The README's own call is a POST without a body.
  const byPost = await client.operation({ name: "everything", resourceType: "Patient", id: "eve" });
  const byGet = await client.operation({ name: "everything", resourceType: "Patient", id: "eve", method: "GET", input: { _type: "Observation" } });
  return [entries(byPost).sort(), entries(byGet).sort()];
});

await step("$lastn", async () => {
  const input = { patient: "Patient/eve", max: 1 };
  return entries(await client.operation({ name: "lastn", resourceType: "Observation", method: "GET", input }));
});

await step("operation that is not there", () => outcome(() => client.operation({ name: "convert", input: { resourceType: "Bundle", type: "batch" } })));

// --- references

await step("resolve", async () => {
  const body = {
    ...heartRate("holder", "Patient/eve", 6),
    contained: [{ resourceType: "Device", id: "monitor", status: "active" }],
    device: { reference: "#monitor" },
  };
  await client.update({ resourceType: "Observation", id: "holder", body });
  const holder = await client.read({ resourceType: "Observation", id: "holder" });
  const bundle = await client.search({ resourceType: "Observation", searchParams: { _id: "holder", _include: "Observation:subject" } });
  const other = new Client({ baseUrl: "http://127.0.0.1:9/elsewhere" });
  const found = [
    await client.resolve({ reference: holder.subject.reference }),
    await client.resolve({ reference: `${openUrl}/Patient/eve` }),
    await other.resolve({ reference: `${openUrl}/Patient/eve` }),
    await client.resolve({ reference: holder.device.reference, context: holder }),
    await client.resolve({ reference: "Patient/eve", context: bundle }),
    await client.resolve({ reference: "Patient/ward", context: bundle }),
  ];
  return found.map((resource) => `${resource.resourceType}/${resource.id}`);
});

// --- who asks

await step("bearer token", async () => {
  const known = new Client({ baseUrl: closedUrl, bearerToken: token });
  const stored = await known.update({ resourceType: "Patient", id: "eve", body: { ...patient("Eve", "eve"), id: "eve" } });
  const found = await known.search({ resourceType: "Patient", searchParams: { _id: "eve" } });
  return { stored: http(stored).status, found: entries(found) };
});

await step("custom headers and a signer", async () => {
  const authorization = `Bearer ${token}`;
  const byHeader = new Client({ baseUrl: closedUrl, customHeaders: { Authorization: authorization } });
  const requestSigner = (_, options) => options.headers.set("Authorization", authorization);
  const bySigner = new Client({ baseUrl: closedUrl, requestSigner });
  const asked = [byHeader, bySigner].map((each) => each.read({ resourceType: "Patient", id: "eve" }));
  return (await Promise.all(asked)).map((answer) => http(answer).status);
});

await step("no token, a wrong one, rights that are not given", async () => {
  const stranger = new Client({ baseUrl: closedUrl });
  const read = { resourceType: "Patient", id: "eve" };
  const asked = [await outcome(() => stranger.read(read))];
  stranger.bearerToken = "wrong";
  asked.push(await outcome(() => stranger.read(read)));
  stranger.bearerToken = token;
  asked.push(await outcome(() => stranger.delete(read)));
  return asked;
});
