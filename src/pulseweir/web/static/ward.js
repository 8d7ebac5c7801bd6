// The board: tiles as they come, the most urgent first.
import { follow } from "./live.js";
import { say, tick } from "./page.js";

const tiles = document.getElementById("tiles");
const byPatient = new Map([...tiles.children].map((tile) => [tile.dataset.patient, tile]));

function put(facts) {
  const box = document.createElement("template");
  box.innerHTML = facts.html;
  const fresh = box.content.querySelector("article");
  const old = byPatient.get(facts.patient_id);
  const hadFocus = old?.contains(document.activeElement);
  byPatient.set(facts.patient_id, fresh);
  if (old && old.dataset.order === fresh.dataset.order) {
    old.replaceWith(fresh);
  } else {
    old?.remove();
    const next = [...tiles.children].find((tile) => tile.dataset.order > fresh.dataset.order);
    tiles.insertBefore(fresh, next ?? null);
  }
  if (hadFocus) fresh.querySelector("a").focus({ preventScroll: true });
  if (facts.state === "high-unacknowledged" && old && old.dataset.state !== facts.state) {
    say(`High alert, ${fresh.querySelector(".bed").textContent.trim()}, score ${facts.score}`, true);
  }
  tick(fresh);
}

function putAll(facts) {
  facts.rows.forEach(put);
}

function summarize(facts) {
  for (const [band, count] of Object.entries(facts.bands)) {
    const chip = document.querySelector(`[data-count="${band}"]`);
    if (chip && chip.textContent.trim() !== String(count)) chip.textContent = count;
  }
  document.getElementById("waiting-count").textContent = facts.unacknowledged;
  document.getElementById("waiting").classList.toggle("some", facts.unacknowledged > 0);
  document.getElementById("waiting-oldest").hidden = !facts.oldest_at;
  if (facts.oldest_at) document.getElementById("waiting-age").dataset.since = facts.oldest_at;
  document.getElementById("empty").hidden = facts.patients > 0;
}

const ward = tiles.dataset.ward;
follow(ward ? `?ward=${encodeURIComponent(ward)}` : "", {
  board(facts) {
    const present = new Set(facts.rows.map((row) => row.patient_id));
    for (const [patient, tile] of byPatient) {
      if (!present.has(patient)) {
        tile.remove();
        byPatient.delete(patient);
      }
    }
    facts.rows.forEach(put);
    summarize(facts);
  },
  live: putAll,
  tile: putAll,
  gone(facts) {
    for (const patient of facts.patients) {
      byPatient.get(patient)?.remove();
      byPatient.delete(patient);
    }
  },
  summary: summarize,
});

document.getElementById("ward")?.addEventListener("change", (event) => event.target.form.submit());
document.getElementById("only-high").addEventListener("change", (event) => {
  tiles.classList.toggle("only-high", event.target.checked);
});
