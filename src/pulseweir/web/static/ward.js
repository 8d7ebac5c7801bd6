// The board: tiles as they come, the most urgent first.
import { follow } from "./live.js";
import { morph, parsed } from "./morph.js";
import { say, tick } from "./page.js";

const tiles = document.getElementById("tiles");
const byPatient = new Map([...tiles.children].map((tile) => [tile.dataset.patient, tile]));

function put(facts) {
  const fresh = parsed(facts.html).querySelector("article");
  const old = byPatient.get(facts.patient_id);
  const before = old && { order: old.dataset.order, state: old.dataset.state };
  const tile = old ?? fresh;
  if (old) morph(old, fresh);
  byPatient.set(facts.patient_id, tile);
  if (before?.order !== tile.dataset.order) {
    const hadFocus = tile.contains(document.activeElement);
    tile.remove();
    const next = [...tiles.children].find((other) => other.dataset.order > tile.dataset.order);
    tiles.insertBefore(tile, next ?? null);
    if (hadFocus) tile.querySelector("a").focus({ preventScroll: true });
  }
  if (facts.state === "high-unacknowledged" && before && before.state !== facts.state) {
    say(`High alert, ${tile.querySelector(".bed").textContent.trim()}, score ${facts.score}`, true);
  }
  tick(tile);
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
follow({ ward }, {
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
    for (const patient of facts.patients_gone) {
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
