// Bundles, operations, references, and a server that asks who comes.

import { Client } from "fhir-kit-client";
import { client, closedUrl, http, openUrl, outcome, patient, put, SYSTEM, token } from "./kit-fixtures.mjs";
import { entries, heartRate, step } from "./steps.mjs";

// --- bundles

const post = (resource, fullUrl, request = {}) => ({
  fullUrl,
  resource,
  request: { method: "POST", url: resource.resourceType, ...request },
});

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
  return {
    large: JSON.stringify(body).length > 65536,
    created: answer.entry.filter((each) => each.response.etag).length,
  };
});

await step("transaction that fails as a whole", async () => {
  const entry = [
    put({ ...patient("Half", "half"), id: "half" }),
    put({ ...patient("Bad", "bad", { gender: "x" }), id: "bad" }),
  ];
  const failed = await outcome(() =>
    client.transaction({ body: { resourceType: "Bundle", type: "transaction", entry } }),
  );
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
  const byGet = await client.operation({
    name: "everything",
    resourceType: "Patient",
    id: "eve",
    method: "GET",
    input: { _type: "Observation" },
  });
  return [entries(byPost).sort(), entries(byGet).sort()];
});

await step("$lastn", async () => {
  const input = { patient: "Patient/eve", max: 1 };
  return entries(await client.operation({ name: "lastn", resourceType: "Observation", method: "GET", input }));
});

await step("operation that is not there", () =>
  outcome(() => client.operation({ name: "convert", input: { resourceType: "Bundle", type: "batch" } })),
);

// --- references

await step("resolve", async () => {
  const body = {
    ...heartRate("holder", "Patient/eve", 6),
    contained: [{ resourceType: "Device", id: "monitor", status: "active" }],
    device: { reference: "#monitor" },
  };
  await client.update({ resourceType: "Observation", id: "holder", body });
  const holder = await client.read({ resourceType: "Observation", id: "holder" });
  const bundle = await client.search({
    resourceType: "Observation",
    searchParams: { _id: "holder", _include: "Observation:subject" },
  });
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
  const stored = await known.update({
    resourceType: "Patient",
    id: "eve",
    body: { ...patient("Eve", "eve"), id: "eve" },
  });
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
