// Searches with their pages, and histories.

import { Client } from "fhir-kit-client";
import { client, openUrl, outcome, patient, SYSTEM } from "./kit-fixtures.mjs";
import { entries, heartRate, step } from "./steps.mjs";

await step("what is looked for", async () => {
  const eve = { ...patient("Eve", "eve"), id: "eve", birthDate: "1990-01-01" };
  const rates = [0, 1, 2, 3, 4].map((minute) => heartRate(`hr-${minute}`, "Patient/eve", minute));
  const stored = [];
  for (const body of [eve, ...rates]) {
    stored.push(await client.update({ resourceType: body.resourceType, id: body.id, body }));
  }
  return stored.length;
});

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
  return { type: bundle.type, total: bundle.total, versions: versions(bundle) };
});

await step("history of a type", async () => {
  const bundle = await client.history({ resourceType: "Patient" });
  return {
    type: bundle.type,
    types: [...new Set(bundle.entry.map((each) => each.fullUrl.split("/").at(-2)))],
    newest: versions(bundle)[0],
  };
});

await step("history of everything", async () => {
  const whole = await client.history();
  const seen = await pages(client, await client.request("_history?_count=3"));
  const entry = seen.flatMap((page) => page.entry);
  return { type: whole.type, several: seen.length > 1, walked: entry.length === whole.total };
});
