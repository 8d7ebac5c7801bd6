// Takes what changed into a page piece by piece: what holds the focus, is open or half typed stays as it is.
const FIELDS = "input:not([type=hidden]), select, textarea";

function isHalfTyped(field) {
  if (field.type === "checkbox" || field.type === "radio") return field.checked !== field.defaultChecked;
  return field.tagName === "SELECT" ? field.selectedIndex > 0 : field.value !== field.defaultValue;
}

/** Whether a person is at work in an element: a field has the focus, or holds what was not sent yet. */
export function isInUse(element) {
  const active = document.activeElement;
  if (active?.matches(FIELDS) && element.contains(active)) return true;
  return [...element.querySelectorAll(FIELDS)].some(isHalfTyped);
}

function isElement(node) {
  return node.nodeType === Node.ELEMENT_NODE;
}

function keyOf(node) {
  if (!isElement(node)) return "";
  return node.id || node.dataset.key || (node.tagName === "FORM" ? node.getAttribute("action") : "");
}

function isKept(element, name) {
  if (name === "open") return element.tagName === "DETAILS" || element.tagName === "DIALOG";
  return name === "value" && element.tagName === "INPUT" && element.type !== "hidden";
}

function takeAttributes(old, fresh) {
  for (const { name, value } of [...fresh.attributes]) {
    if (!isKept(old, name) && old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && !isKept(old, name)) old.removeAttribute(name);
  }
}

function matchOf(wanted, cursor, byKey, used) {
  const key = keyOf(wanted);
  if (key) {
    const known = byKey.get(key);
    return known?.nodeName === wanted.nodeName && !used.has(known) ? known : null;
  }
  let node = cursor;
  while (node && (used.has(node) || keyOf(node) || node.nodeName !== wanted.nodeName)) node = node.nextSibling;
  return node;
}

/** Puts a child where the cursor is; one with the focus stays, and the others move: moving it would take the focus. */
function place(parent, node, cursor) {
  if (node === cursor) return node.nextSibling;
  if (!node.contains(document.activeElement)) {
    parent.insertBefore(node, cursor);
    return cursor;
  }
  const after = node.nextSibling;
  let other = cursor;
  while (other && other !== node) {
    const next = other.nextSibling;
    parent.insertBefore(other, after);
    other = next;
  }
  return node.nextSibling;
}

function drop(node) {
  if (isElement(node) && isInUse(node)) {
    node.dataset.leftOver = "No longer in this list. What you typed is kept.";
    return;
  }
  const next = isElement(node) && node.contains(document.activeElement) ? node.nextElementSibling : null;
  node.remove();
  next?.focus?.({ preventScroll: true });
}

function takeChildren(old, fresh) {
  const byKey = new Map([...old.children].map((child) => [keyOf(child), child]));
  const used = new Set();
  let cursor = old.firstChild;
  for (const wanted of [...fresh.childNodes]) {
    while (cursor && used.has(cursor)) cursor = cursor.nextSibling;
    const match = matchOf(wanted, cursor, byKey, used);
    if (!match) {
      used.add(old.insertBefore(wanted, cursor));
      continue;
    }
    used.add(match);
    cursor = place(old, match, cursor);
    morph(match, wanted);
  }
  for (const child of [...old.childNodes]) if (!used.has(child)) drop(child);
}

/** Makes one node like another of the same name, in place. */
export function morph(old, fresh) {
  if (old.isEqualNode(fresh)) return;
  if (!isElement(old)) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  takeAttributes(old, fresh);
  takeChildren(old, fresh);
}

/** The elements of a text of HTML. */
export function parsed(html) {
  const box = document.createElement("template");
  box.innerHTML = html;
  return box.content;
}
