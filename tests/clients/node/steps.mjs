// What a client saw, one JSON line a step: {"step": name, "saw": ...} or {"step": name, "failed": ...}.

/** Do one step and print what it gives. One that fails is told, and the next ones still run. */
export async function step(name, look) {
  let told;
  try {
    told = { saw: await look() };
  } catch (error) {
    told = { failed: String(error.stack ?? error), answer: error.response?.data };
  }
  console.log(JSON.stringify({ step: name, ...told }));
}

/** The error of something that has to fail; its success is the failure. */
export async function refused(attempt) {
  let gave;
  try {
    gave = await attempt();
  } catch (error) {
    return error;
  }
  throw new Error(`went through and gave ${JSON.stringify(gave)}`);
}

/** Type and id of each entry, in order. */
export function entries(bundle) {
  return (bundle.entry ?? []).map(({ resource }) => `${resource.resourceType}/${resource.id}`);
}

/** A heart rate of a patient, taken in one minute of an hour. */
export function heartRate(id, patient, minute) {
  return {
    resourceType: "Observation",
    ...(id ? { id } : {}),
    status: "final",
    code: { coding: [{ system: "http://loinc.org", code: "8867-4" }] },
    subject: { reference: patient },
    effectiveDateTime: `2024-05-01T10:${String(minute).padStart(2, "0")}:00Z`,
    valueQuantity: { value: 60 + minute, unit: "beats/min", system: "http://unitsofmeasure.org", code: "/min" },
  };
}
