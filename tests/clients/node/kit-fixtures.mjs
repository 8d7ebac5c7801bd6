// What all steps of fhir-kit-client share.

import { Client } from "fhir-kit-client";
import { refused } from "./steps.mjs";

export const [openUrl, closedUrl, token] = process.argv.slice(2);
export const client = new Client({ baseUrl: openUrl });
export const SYSTEM = "https://example.org/ids";

/** How an entry of a bundle stores a resource under its own id. */
export const put = (resource) => ({
  resource,
  request: { method: "PUT", url: `${resource.resourceType}/${resource.id}` },
});

export function patient(family, value, more = {}) {
  return {
    resourceType: "Patient",
    identifier: [{ system: SYSTEM, value }],
    name: [{ family, given: ["Jane"] }],
    ...more,
  };
}

export const http = (answer) => {
  const { response } = Client.httpFor(answer);
  return { status: response.status, etag: response.headers.get("etag") };
};
export const status = async (attempt) => (await refused(attempt)).response.status;
export const outcome = async (attempt) => {
  const { response } = await refused(attempt);
  return { status: response.status, type: response.data.resourceType, code: response.data.issue[0].code };
};
