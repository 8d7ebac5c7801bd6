// What the server says of itself, and one resource at a time.

import { CapabilityTool, Client } from "fhir-kit-client";
import { client, closedUrl, http, openUrl, outcome, patient, status, SYSTEM } from "./kit-fixtures.mjs";
import { step } from "./steps.mjs";

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
  return {
    ...http(created),
    family: created.name[0].family,
    at: location === `${openUrl}/Patient/${created.id}/_history/1`,
  };
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
