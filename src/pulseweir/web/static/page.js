// The server's clock, and every age on the page, ticking.
const root = document.documentElement;
const offsets = JSON.parse(root.dataset.offsets);
let base = Number(root.dataset.now);
let speed = Number(root.dataset.speed);
let since = performance.now();

/** The house's present instant, microseconds. */
export function now() {
  return base + (performance.now() - since) * 1000 * speed;
}

/** Takes the server's instant from an event. */
export function setNow(microseconds, factor) {
  base = microseconds;
  speed = factor ?? speed;
  since = performance.now();
}

/** Seconds as people say them; the same words as the server's. */
export function span(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min`;
  const minutes = Math.floor((whole % 3600) / 60);
  if (whole < 86400) return `${Math.floor(whole / 3600)} h` + (minutes ? ` ${minutes} min` : "");
  return `${Math.floor(whole / 86400)} d`;
}

/** The site's distance from UTC at an instant: seconds, and what the zone is called then. */
function offsetAt(microseconds) {
  let found = offsets[0];
  for (const offset of offsets) if (offset[0] <= microseconds) found = offset;
  return { seconds: found[1], name: found[2] };
}

/** What the site's zone is called at an instant. */
export function zoneName(microseconds) {
  return offsetAt(microseconds).name;
}

/** Hours, minutes, seconds in the time of the site. */
export function clockTime(microseconds) {
  return new Date(microseconds / 1000 + offsetAt(microseconds).seconds * 1000).toISOString().slice(11, 19);
}

function countdown(seconds) {
  if (seconds <= 0) return "now";
  const whole = Math.ceil(seconds);
  return whole < 3600 ? `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}` : span(whole);
}

function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Renews every age and countdown within an element. */
export function tick(within = document) {
  const present = now();
  for (const element of within.querySelectorAll("[data-since]")) {
    const seconds = (present - Number(element.dataset.since)) / 1e6;
    const isStale = element.dataset.limit !== undefined && seconds > Number(element.dataset.limit);
    write(element, span(seconds) + (isStale ? " stale" : ""));
    if (isStale) element.closest(".vital")?.classList.add("is-stale");
  }
  for (const element of within.querySelectorAll("[data-until]")) {
    write(element, countdown((Number(element.dataset.until) - present) / 1e6));
  }
  for (const element of document.querySelectorAll("[data-clock]")) write(element, clockTime(present));
  for (const element of document.querySelectorAll("[data-zone]")) write(element, zoneName(present));
}

/** Speaks to a screen reader, at once or when it is convenient. */
export function say(sentence, isUrgent = false) {
  const place = document.getElementById(isUrgent ? "say-now" : "say");
  if (place) place.textContent = sentence;
}

tick();
setInterval(tick, 500);
