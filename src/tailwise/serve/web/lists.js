// The two orders side by side: the same element stays with an item, so that it can be seen to move.

import { find, icon, make } from "./dom.js";
import { words } from "./strings.js";

const ACTIONS = ["view", "favourite", "dislike", "purchase"];
const still = matchMedia("(prefers-reduced-motion: reduce)");

const before = { list: find("first"), rows: new Map() };
const after = { list: find("reranked"), rows: new Map() };

/** Show an answer; `act(item, place, event)` and `why(item, shown)` are called for clicks. Returns how many moved up, down, in. */
export function showLists(answer, act, why) {
  const firstPlaces = new Map(answer.first_stage.map((item, index) => [item.item_id, index + 1]));
  const lastPlaces = new Map(answer.items.map((item, index) => [item.item_id, index + 1]));
  const focus = rememberFocus();
  arrange(before, answer.first_stage, (item, place, share) => firstRow(item, place, share, lastPlaces.get(item.item_id), why));
  arrange(after, answer.items, (item, place, share) => rerankedRow(item, place, share, firstPlaces.get(item.item_id), act, why));
  restoreFocus(focus);
  drawLinks(firstPlaces, lastPlaces);
  const moves = answer.items.map((item, index) => (firstPlaces.get(item.item_id) ?? Infinity) - index - 1);
  return {
    up: moves.filter((move) => move > 0 && move < Infinity).length,
    down: moves.filter((move) => move < 0).length,
    fresh: moves.filter((move) => move === Infinity).length,
  };
}

/** Put the rows of `items` in order, reusing those that are there; they glide to their new places. */
function arrange(side, items, fill) {
  const were = new Map([...side.rows].map(([id, row]) => [id, row.getBoundingClientRect()]));
  const known = items.map((item) => item.score).filter((score) => score !== null);
  const low = Math.min(...known), high = Math.max(...known);
  const rows = items.map((item, index) => {
    const row = side.rows.get(item.item_id) ?? make("li", { tabIndex: -1 });
    row.dataset.id = item.item_id;
    row.style.setProperty("--place", index + 1);
    const share = item.score === null || high === low ? 1 : (item.score - low) / (high - low);
    row.replaceChildren(...fill(item, index + 1, 0.08 + 0.92 * share));
    return row;
  });
  side.rows = new Map(items.map((item, index) => [item.item_id, rows[index]]));
  side.list.replaceChildren(...rows);
  if (!still.matches) for (const row of rows) glide(row, were.get(row.dataset.id));
}

function glide(row, was) {
  const now = row.getBoundingClientRect();
  const from = was && was.height
    ? { transform: `translate(${was.left - now.left}px, ${was.top - now.top}px)` }
    : { opacity: 0, transform: "translateY(12px)" };
  row.animate([from, { transform: "none" }], { duration: 420, easing: "cubic-bezier(.2,.8,.2,1)" });
}

function firstRow(item, place, share, now, why) {
  const ask = make("button", { type: "button", className: "ask", textContent: words().whyNot, "aria-label": words().whyNotItem(item.title), onclick: () => why(item, false) });
  return [
    make("span", { className: "place", textContent: place }),
    make("div", { className: "body" }, make("strong", { className: "title", textContent: item.title }), score(item, share)),
    now === undefined ? ask : shown("goes", `→ ${now}`, words().nowNumber(now)),
  ];
}

function rerankedRow(item, place, share, was, act, why) {
  const labels = item.labels.slice(0, 4).map((label) => make("span", { textContent: label }));
  const tail = item.tail ? make("span", { className: "tail", textContent: words().tail, title: words().outside }) : null;
  const reasons = item.reasons.map((reason) => make("li", { textContent: reason }));
  const ask = make("button", { type: "button", className: "ask", textContent: words().why, "aria-label": words().whyItem(item.title), onclick: () => why(item, true) });
  const buttons = ACTIONS.map((event) => {
    const verb = words().act[event], label = words().actOn(verb, item.title);
    const button = make("button", { type: "button", title: verb, "aria-label": label, onclick: () => act(item, place, event) }, icon(event));
    button.dataset.event = event;
    return button;
  });
  return [
    make("span", { className: "place", textContent: place }),
    make("div", { className: "line" },
      make("div", { className: "heading" }, make("strong", { className: "title", textContent: item.title }),
        make("span", { className: "labels" }, tail, ...labels)),
      movement(item, place, was)),
    make("div", { className: "line" },
      make("div", { className: "body" }, make("ul", { className: "reasons", "aria-label": words().reasons }, ...reasons), score(item, share)),
      make("div", { className: "actions" }, ask, ...buttons)),
  ];
}

function movement(item, place, was) {
  const by = was === undefined ? 0 : was - place;
  const [text, kind, said] = was === undefined
    ? [`● ${words().isNew}`, "new", words().newHere(item.first_rank)]
    : by > 0 ? [`▲${by}`, "up", words().upFrom(by, was)]
    : by < 0 ? [`▼${-by}`, "down", words().downFrom(-by, was)]
    : ["=", "same", words().same];
  const origin = was === undefined ? make("small", { textContent: words().from(item.first_rank), "aria-hidden": "true" }) : null;
  return shown(`move ${kind}`, text, said, origin);
}

/** A sign to look at, and the words to hear. */
function shown(className, sign, said, ...more) {
  return make("span", { className, title: said }, make("span", { textContent: sign, "aria-hidden": "true" }),
    make("span", { className: "hidden", textContent: said }), ...more);
}

function score(item, share) {
  const bar = make("span", { className: "share" });
  bar.style.setProperty("--share", share);
  const text = item.score === null ? "–" : item.score.toFixed(3);
  return make("div", { className: "score", title: words().score }, bar, make("span", { className: "mono", textContent: text }));
}

// When the pressed button's item leaves the list, the focus goes to the item now in its place.

function rememberFocus() {
  const row = document.activeElement?.closest?.("#reranked > li");
  return row && { row, event: document.activeElement.dataset.event, index: [...after.list.children].indexOf(row) };
}

function restoreFocus(focus) {
  if (!focus) return;
  const rows = [...after.list.children];
  const row = rows.includes(focus.row) ? focus.row : rows[Math.min(focus.index, rows.length - 1)];
  (row?.querySelector(`[data-event="${focus.event}"]`) ?? row ?? after.list).focus({ preventScroll: true });
}

// Lines from each item's first place to its last; they light up with the rows that they join.

const board = find("board");
let joined = [new Map(), new Map()];

function drawLinks(firstPlaces, lastPlaces) {
  joined = [firstPlaces, lastPlaces];
  const middle = (row) => row.offsetTop + row.offsetHeight / 2;
  const paths = [];
  for (const [id, place] of lastPlaces) {
    if (!firstPlaces.has(id)) continue;
    const by = firstPlaces.get(id) - place;
    const y = middle(before.rows.get(id)), z = middle(after.rows.get(id));
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    path.setAttribute("d", `M0 ${y}C32 ${y} 32 ${z} 64 ${z}`);
    path.setAttribute("class", by > 0 ? "up" : by < 0 ? "down" : "same");
    path.dataset.id = id;
    paths.push(path);
  }
  find("links").replaceChildren(...paths);
}

function light(event) {
  const id = event.target.closest?.(".stage li[data-id]")?.dataset.id;
  for (const part of board.querySelectorAll("[data-id]")) part.classList.toggle("lit", part.dataset.id === id);
}

new ResizeObserver(() => drawLinks(...joined)).observe(board);
for (const kind of ["pointerover", "pointerleave", "focusin"]) board.addEventListener(kind, light);
