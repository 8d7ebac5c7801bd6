// One patient: the present taken in whenever it changes, the charts drawn again now and then.
import { follow } from "./live.js";
import { morph, parsed } from "./morph.js";
import { now, tick } from "./page.js";
import { ask, renewer } from "./requests.js";

const PAUSE_MILLISECONDS = 300;
const DRAW_AGAIN_MILLISECONDS = 120000;
const page = document.getElementById("patient");
const patient = encodeURIComponent(page.dataset.patient);
const charts = document.getElementById("charts");
const problem = document.getElementById("chart-problem");
let isDrawing = false;

async function draw() {
  if (isDrawing) return;
  isDrawing = true;
  try {
    const answer = await ask(`/patients/${patient}/charts.json?hours=${page.dataset.hours}`);
    if (!answer.ok) throw new Error(String(answer.status));
    const facts = await answer.json();
    document.getElementById("tables").innerHTML = facts.tables;
    charts.replaceChildren();
    await window.Bokeh.embed.embed_item(facts.charts, "charts");
    charts.dataset.drawn = "true";
    problem.hidden = true;
    document.getElementById("drawn-age").dataset.since = now();
    document.getElementById("drawn").hidden = false;
  } catch {
    problem.hidden = false;
    problem.textContent = "The charts could not be loaded. What is drawn is old; press Draw again or reload the page.";
  }
  isDrawing = false;
}

function take(html) {
  const fresh = parsed(html);
  for (const id of ["banner", "present"]) morph(document.getElementById(id), fresh.getElementById(id));
  tick();
}

const renewSoon = renewer(`/patients/${patient}/present`, take, PAUSE_MILLISECONDS);

draw();
document.getElementById("draw-again").addEventListener("click", draw);
setInterval(() => {
  if (!document.hidden && !charts.matches(":hover")) draw();
}, DRAW_AGAIN_MILLISECONDS);
document.addEventListener("sent", renewSoon);
follow(
  { patient: page.dataset.patient },
  { board: renewSoon, live: renewSoon, tile: renewSoon, alerts: renewSoon },
);
