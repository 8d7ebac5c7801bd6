// What a page is told live, limited to what it shows, and the honest word about how fresh that is.
import { clockTime, now, setNow, span, zoneName } from "./page.js";
import "./requests.js";
import "./shown.js";
import { join } from "./stream.js";

const QUIET_MILLISECONDS = 6000;
const OFFLINE_MILLISECONDS = 15000;
const RELOAD_MILLISECONDS = 5000;
const DELAYED_SECONDS = 5;

const root = document.documentElement;
const state = document.getElementById("connection");
const word = document.getElementById("connection-word");
const bar = document.getElementById("offline");
const signs = new Map();
let heardAt = performance.now();
let heardServer = now();
let isBroken = false;
let isHeard = false;
let delaySeconds = 0;

/** Seconds since the newest usable reading of what this page shows; null when it shows nobody. */
function valueAge() {
  return signs.size ? (now() - Math.max(...signs.values())) / 1e6 : null;
}

/** The state of the page, worst first, and the word for it: an open connection alone proves nothing. */
function judged() {
  const silent = performance.now() - heardAt;
  if (isBroken || silent > OFFLINE_MILLISECONDS) return ["offline", "offline"];
  if (!isHeard) return ["waiting", "connecting"];
  const behind = Math.max(delaySeconds, silent > QUIET_MILLISECONDS ? silent / 1000 : 0);
  if (behind > DELAYED_SECONDS) return ["delayed", `delayed ${span(behind)}`];
  const age = valueAge();
  if (age === null) return ["live", "live"];
  if (age > Number(root.dataset.quietAfter)) return ["quiet", `no new values for ${span(age)}`];
  return ["live", `live · newest ${span(age)} ago`];
}

function show() {
  if (!state) return;
  const [name, text] = judged();
  if (state.dataset.state !== name) state.dataset.state = name;
  if (word.textContent !== text) word.textContent = text;
  bar.hidden = name !== "offline";
  document.getElementById("offline-since").textContent = `${clockTime(heardServer)} ${zoneName(heardServer)}`;
}

function heard(facts) {
  isBroken = false;
  isHeard = true;
  heardAt = performance.now();
  heardServer = facts.server_time;
  setNow(facts.server_time, facts.speed);
  const dot = state?.querySelector(".dot");
  if (dot) {
    dot.classList.remove("beat");
    requestAnimationFrame(() => dot.classList.add("beat"));
  }
}

const NOBODY = { patients: 0, bands: {}, unacknowledged: 0, oldest_at: null };

/** An event with only what the view shows; patients that left it are named in `left`. */
function limited(kind, facts, view) {
  const shows = (row) => (!view.ward || row.ward === view.ward) && (!view.patient || row.patient_id === view.patient);
  const found = { ...facts, left: [] };
  if (facts.rows) {
    found.rows = facts.rows.filter(shows);
    found.left = facts.rows.filter((row) => !shows(row)).map((row) => row.patient_id);
  }
  if (view.ward && facts.wards) Object.assign(found, NOBODY, facts.wards[view.ward]);
  if (kind === "board") signs.clear();
  for (const patient of [...found.left, ...(facts.patients_gone ?? [])]) signs.delete(patient);
  for (const row of found.rows ?? []) signs.set(row.patient_id, row.sign_of_life_at ?? 0);
  return found;
}

/**
 * Follows the stream that all tabs of this browser share.
 * @param {{ward?: string, patient?: string}} view what this page shows
 * @param {Record<string, (facts: any) => void>} on what to do with each kind of event
 */
export function follow(view, on) {
  join(root.dataset.session, ({ kind, facts }) => {
    if (kind === "broken" || kind === "closed") {
      isBroken = true;
      show();
      if (kind === "closed") setTimeout(() => location.reload(), RELOAD_MILLISECONDS);
      return;
    }
    if (kind === "signed-out") {
      location.reload();
      return;
    }
    if (kind === "heartbeat") delaySeconds = facts.delay_seconds;
    heard(facts);
    const seen = limited(kind, facts, view);
    if (seen.left.length) on.gone?.({ patients_gone: seen.left });
    if (!facts.rows || seen.rows.length || kind === "board") on[kind]?.(seen);
    show();
  });
  setInterval(show, 1000);
}
