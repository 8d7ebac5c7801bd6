// One stream of server-sent events, and the honest word about its state.
import { clockTime, now, setNow, span, zoneName } from "./page.js";

const QUIET_MILLISECONDS = 6000;
const OFFLINE_MILLISECONDS = 15000;
const DELAYED_SECONDS = 5;

const state = document.getElementById("connection");
const word = document.getElementById("connection-word");
const bar = document.getElementById("offline");
let heardAt = performance.now();
let heardServer = now();
let isBroken = false;
let delaySeconds = 0;

function show() {
  if (!state) return;
  const silent = performance.now() - heardAt;
  const isOffline = isBroken || silent > OFFLINE_MILLISECONDS;
  const behind = Math.max(delaySeconds, silent > QUIET_MILLISECONDS ? silent / 1000 : 0);
  const name = isOffline ? "offline" : behind > DELAYED_SECONDS ? "delayed" : "live";
  if (state.dataset.state !== name || name === "delayed") {
    state.dataset.state = name;
    word.textContent = name === "delayed" ? `delayed ${span(behind)}` : name;
  }
  bar.hidden = !isOffline;
  document.getElementById("offline-since").textContent = `${clockTime(heardServer)} ${zoneName(heardServer)}`;
}

function heard(facts) {
  isBroken = false;
  heardAt = performance.now();
  heardServer = facts.server_time;
  setNow(facts.server_time, facts.speed);
  const dot = state?.querySelector(".dot");
  if (dot) {
    dot.classList.remove("beat");
    requestAnimationFrame(() => dot.classList.add("beat"));
  }
  show();
}

/**
 * Follows the stream; the browser reconnects by itself with Last-Event-ID, and the server sends everything again.
 * @param {string} query limits what is sent
 * @param {Record<string, (facts: any) => void>} on what to do with each kind of event
 */
export function follow(query, on) {
  const source = new EventSource(`/events${query}`);
  const kinds = ["board", "live", "tile", "gone", "summary", "heartbeat", "signed-out"];
  for (const kind of kinds) {
    source.addEventListener(kind, (event) => {
      const facts = JSON.parse(event.data);
      if (kind === "heartbeat") delaySeconds = facts.delay_seconds;
      heard(facts);
      on[kind]?.(facts);
      if (kind === "signed-out") {
        source.close();
        location.reload();
      }
    });
  }
  source.onerror = () => {
    isBroken = true;
    show();
    if (source.readyState === EventSource.CLOSED) setTimeout(() => location.reload(), 5000);
  };
  setInterval(show, 1000);
  return source;
}
