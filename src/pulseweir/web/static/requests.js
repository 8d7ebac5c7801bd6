// Every request of a page has a time limit, and says when it was not answered.
import { isInUse } from "./morph.js";

const LIMIT_MILLISECONDS = 10000;
const AGAIN_MILLISECONDS = 2000;

/** A request that ends: fails when it is not answered in time. */
export function ask(path, options = {}) {
  return fetch(path, { ...options, signal: AbortSignal.timeout(LIMIT_MILLISECONDS) });
}

/**
 * Renews a part of the page soon, once for any number of calls; again when it was called meanwhile, or was not answered.
 * @param {string} path where the part comes from
 * @param {(html: string) => void} take what to do with it
 * @param {number} pause milliseconds to wait for more to change
 */
export function renewer(path, take, pause) {
  let timer = 0;
  let isRunning = false;
  let isCalled = false;
  async function renew() {
    timer = 0;
    isRunning = true;
    isCalled = false;
    try {
      const answer = await ask(path);
      if (answer.status === 401) location.reload();
      if (!answer.ok) throw new Error(String(answer.status));
      take(await answer.text());
    } catch {
      isCalled = true;
    }
    isRunning = false;
    if (isCalled) soon(AGAIN_MILLISECONDS);
  }
  function soon(wait = pause) {
    isCalled = true;
    if (!timer && !isRunning) timer = setTimeout(renew, wait);
  }
  return () => soon();
}

function tell(sentence) {
  const place = document.getElementById("not-sent");
  place.textContent = sentence;
  place.hidden = !sentence;
}

async function refusal(answer) {
  const facts = await answer.json().catch(() => ({}));
  return facts.error ?? `The server answered ${answer.status}.`;
}

function settle(form) {
  const next = form.elements.next?.value;
  form.reset();
  form.querySelector(":focus")?.blur();
  form.closest("details")?.removeAttribute("open");
  form.dispatchEvent(new CustomEvent("sent", { bubbles: true }));
  if (!isInUse(document.body)) location.assign(next ?? (form.action.endsWith("/sign-out") ? "/sign-in" : location.href));
}

async function send(form, button) {
  form.dataset.sending = "";
  tell("");
  try {
    const answer = await ask(form.action, {
      method: "POST",
      body: new URLSearchParams(new FormData(form, button)),
      headers: { accept: "application/json" },
      redirect: "manual",
    });
    if (answer.type === "opaqueredirect" || answer.ok) settle(form);
    else tell(`Not done. ${await refusal(answer)}`);
  } catch {
    tell(`Not done: no answer within ${LIMIT_MILLISECONDS / 1000} s. Try again.`);
  }
  delete form.dataset.sending;
}

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.method !== "post") return;
  event.preventDefault();
  if (form.dataset.sending === undefined) send(form, event.submitter);
});
