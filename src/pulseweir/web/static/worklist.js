// The worklist: renewed when an alert changes, driven by hand or keyboard.
import { follow } from "./live.js";
import { say, tick } from "./page.js";

const list = document.getElementById("list");
const help = document.getElementById("help");
let isWaiting = false;
let high = countHigh();

function countHigh() {
  return list.querySelectorAll('.item[data-priority="high"]:not([data-seen])').length;
}

async function renew() {
  isWaiting = false;
  if (list.querySelector("details[open]")) {
    renewSoon();
    return;
  }
  const answer = await fetch(`/worklist/items?tab=${encodeURIComponent(list.dataset.tab)}`);
  if (!answer.ok) return;
  const chosen = document.activeElement?.closest(".item")?.id;
  list.innerHTML = await answer.text();
  if (chosen) document.getElementById(chosen)?.focus({ preventScroll: true });
  const counts = document.getElementById("counts").dataset;
  for (const badge of document.querySelectorAll(".count[data-tab]")) badge.textContent = counts[badge.dataset.tab];
  const before = high;
  high = countHigh();
  if (high > before) say(`${high - before} new high alert`, true);
  tick(list);
}

function renewSoon() {
  if (isWaiting) return;
  isWaiting = true;
  setTimeout(renew, 300);
}

function move(step) {
  const items = [...list.querySelectorAll(".item")];
  const place = items.indexOf(document.activeElement?.closest(".item"));
  const next = items[Math.min(items.length - 1, Math.max(0, place + step))];
  next?.focus();
  next?.scrollIntoView({ block: "nearest" });
}

function press(key) {
  const item = document.activeElement?.closest(".item");
  item?.querySelector(`[data-key="${key}"]`)?.click();
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

follow("?only=alerts", { board: renewSoon, tile: renewSoon });
