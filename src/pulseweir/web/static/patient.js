// One patient: charts once, the present again whenever it changes.
import { follow } from "./live.js";
import { tick } from "./page.js";

const page = document.getElementById("patient");
const patient = encodeURIComponent(page.dataset.patient);
const present = document.getElementById("present");
const PAUSE_MILLISECONDS = 1000;
let isWaiting = false;

async function draw() {
  const problem = document.getElementById("chart-problem");
  try {
    const answer = await fetch(`/patients/${patient}/charts.json?hours=${page.dataset.hours}`);
    if (!answer.ok) throw new Error(String(answer.status));
    const facts = await answer.json();
    document.getElementById("tables").innerHTML = facts.tables;
    document.getElementById("chart-wait")?.remove();
    await window.Bokeh.embed.embed_item(facts.charts, "charts");
    document.getElementById("charts").dataset.drawn = "true";
  } catch {
    problem.hidden = false;
    problem.textContent = "The charts could not be loaded. Reload the page to try again.";
  }
}

function isBusy() {
  return present.querySelector("details.drop[open]") || present.contains(document.activeElement);
}

async function renew() {
  isWaiting = false;
  if (isBusy()) return;
  const answer = await fetch(`/patients/${patient}/present`);
  if (!answer.ok) return;
  const open = [...present.querySelectorAll("details[open] > summary")].map((summary) => summary.textContent);
  present.innerHTML = await answer.text();
  for (const summary of present.querySelectorAll("details > summary")) {
    if (open.includes(summary.textContent)) summary.parentElement.open = true;
  }
  tick(present);
}

function renewSoon() {
  if (isWaiting) return;
  isWaiting = true;
  setTimeout(renew, PAUSE_MILLISECONDS);
}

draw();
follow(`?patient=${patient}`, { live: renewSoon, tile: renewSoon });
