// Microsoft's own renderer draws a card, with markdown as readers of cards have it; prints what is seen of it.
// Arguments: the card as JSON.
import { createRequire } from "node:module";

import { parseHTML } from "linkedom";
import MarkdownIt from "markdown-it";

import { step } from "./steps.mjs";

const { window, document } = parseHTML("<!doctype html><html><body></body></html>");
const shown = { configurable: true, get() { return this.textContent; }, set(text) { this.textContent = text; } };
for (const tag of ["span", "p", "div", "button"]) {
  let kind = Object.getPrototypeOf(document.createElement(tag));
  while (kind && !Object.getOwnPropertyDescriptor(kind, "innerText")) kind = Object.getPrototypeOf(kind);
  if (kind) Object.defineProperty(kind, "innerText", shown);
}
const { HTMLElement, HTMLButtonElement } = window;
Object.assign(globalThis, { window, document, HTMLElement, HTMLButtonElement, getComputedStyle: () => ({}) });
const cards = createRequire(import.meta.url)("adaptivecards/dist/adaptivecards.js");
cards.AdaptiveCard.onProcessMarkdown = (text, result) => {
  result.outputHtml = new MarkdownIt().render(text);
  result.didProcess = true;
};

await step("card", () => {
  const context = new cards.SerializationContext(cards.Versions.v1_4);
  const card = new cards.AdaptiveCard();
  card.parse(JSON.parse(process.argv[2]), context);
  const events = [...Array(context.eventCount).keys()].map((place) => context.getEventAt(place).message);
  const faults = card.validateProperties().validationEvents.map((event) => event.message);
  const drawn = card.render();
  const texts = (name) => [...drawn.querySelectorAll(name)].map((part) => part.textContent.trim());
  return {
    faults: [...events, ...faults],
    runs: texts(".ac-textRun"),
    facts: texts(".ac-factset td").filter((text) => text !== ""),
    buttons: texts("button"),
    emphasis: drawn.querySelectorAll("em, strong, a, ul, ol, h1, h2, code").length,
  };
});
