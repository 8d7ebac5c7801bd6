// Tells the server which alerts a person could really have seen: in view, for a second, in a page that is looked at.
import { ask } from "./requests.js";

const path = document.documentElement.dataset.shownPath;
const SEEN_MILLISECONDS = 1000;
const AGAIN_MILLISECONDS = 5000;
const told = new Set();
const waiting = new Map();
const timers = new Map();
let isSending = false;

function nameOf(pill) {
  return `${pill.dataset.alert} ${pill.dataset.shownAs}`;
}

async function send() {
  if (isSending || !waiting.size) return;
  isSending = true;
  const now = [...waiting];
  try {
    const answer = await ask(path, {
      method: "POST",
      headers: {
        "content-type": "application/json",
        accept: "application/json",
        "x-csrf-token": document.documentElement.dataset.csrf,
      },
      body: JSON.stringify({ alerts: [...new Set(now.map(([, alert]) => alert))] }),
    });
    if (!answer.ok) throw new Error(String(answer.status));
    for (const [name] of now) {
      told.add(name);
      waiting.delete(name);
    }
  } catch {
    setTimeout(send, AGAIN_MILLISECONDS);
  }
  isSending = false;
}

function seen(pill) {
  timers.delete(pill);
  if (document.visibilityState !== "visible" || !pill.isConnected || pill.dataset.closed !== undefined) return;
  const name = nameOf(pill);
  if (told.has(name)) return;
  waiting.set(name, pill.dataset.alert);
  send();
}

function look(entries) {
  for (const { target, isIntersecting, intersectionRatio } of entries) {
    clearTimeout(timers.get(target));
    timers.delete(target);
    if (isIntersecting && intersectionRatio >= 0.5) {
      timers.set(target, setTimeout(() => seen(target), SEEN_MILLISECONDS));
    }
  }
}

if (path) {
  const observer = new IntersectionObserver(look, { threshold: [0, 0.5] });
  const watch = () => {
    observer.disconnect();
    for (const pill of document.querySelectorAll(".pill[data-alert]")) {
      if (!told.has(nameOf(pill))) observer.observe(pill);
    }
  };
  // Pills come and change with the page; a page that is looked at again shows them anew.
  setInterval(watch, 2000);
  document.addEventListener("visibilitychange", watch);
  watch();
}
