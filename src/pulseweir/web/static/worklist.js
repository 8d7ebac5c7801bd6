// The worklist: taken in when an alert changes, driven by hand or keyboard.
import { follow } from "./live.js";
import { morph, parsed } from "./morph.js";
import { say, tick } from "./page.js";
import { renewer } from "./requests.js";

const PAUSE_MILLISECONDS = 300;
const list = document.getElementById("list");
const help = document.getElementById("help");
let high = countHigh();

function countHigh() {
  return list.querySelectorAll('.item[data-priority="high"]:not([data-seen])').length;
}

function take(html) {
  const box = list.cloneNode(false);
  box.append(parsed(html));
  morph(list, box);
  const counts = document.getElementById("counts").dataset;
  for (const badge of document.querySelectorAll(".count[data-tab]")) badge.textContent = counts[badge.dataset.tab];
  const before = high;
  high = countHigh();
  if (high > before) say(`${high - before} new high alert`, true);
  tick(list);
}

const renewSoon = renewer(`/worklist/items?tab=${encodeURIComponent(list.dataset.tab)}`, take, PAUSE_MILLISECONDS);

function move(step) {
  const items = [...list.querySelectorAll(".item")];
  const place = items.indexOf(document.activeElement?.closest(".item"));
  const next = items[Math.min(items.length - 1, Math.max(0, place + step))];
  next?.focus();
  next?.scrollIntoView({ block: "nearest" });
}

function press(key) {
  const item = document.activeElement?.closest(".item");
  item?.querySelector(`[data-key-press="${key}"]`)?.click();
}

document.addEventListener("keydown", (event) => {
  const isTyping = event.target.matches("input, select, textarea");
  if (isTyping || event.ctrlKey || event.metaKey || event.altKey || help.open) return;
  const key = event.key.toLowerCase();
  if (key === "j") move(1);
  else if (key === "k") move(-1);
  else if (key === "?") help.showModal();
  else if (["a", "c", "e"].includes(key)) press(key);
  else return;
  event.preventDefault();
});
document.getElementById("help-open").addEventListener("click", () => help.showModal());
document.addEventListener("sent", renewSoon);

follow({}, { board: renewSoon, alerts: renewSoon });
