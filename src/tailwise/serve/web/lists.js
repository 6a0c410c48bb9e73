// The two orders side by side: the same element stays with an item, so that it can be seen to move.

import { find, icon, make } from "./dom.js";

const ACTIONS = [["view", "View"], ["favourite", "Like"], ["dislike", "Dislike"], ["purchase", "Purchase"]];
const still = matchMedia("(prefers-reduced-motion: reduce)");

const before = { list: find("first"), rows: new Map() };
const after = { list: find("reranked"), rows: new Map() };

/** Show an answer; `act(item, place, event)` is called for a click. Returns how many moved up, down and came in. */
export function showLists(answer, act) {
  const firstPlaces = new Map(answer.first_stage.map((item, index) => [item.item_id, index + 1]));
  const lastPlaces = new Map(answer.items.map((item, index) => [item.item_id, index + 1]));
  const focus = rememberFocus();
  arrange(before, answer.first_stage, (item, place, share) => firstRow(item, place, share, lastPlaces.get(item.item_id)));
  arrange(after, answer.items, (item, place, share) => rerankedRow(item, place, share, firstPlaces.get(item.item_id), act));
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

function firstRow(item, place, share, now) {
  return [
    make("span", { className: "place", textContent: place }),
    make("div", { className: "body" }, make("strong", { className: "title", textContent: item.title }), score(item, share)),
    shown("goes", now === undefined ? "–" : `→ ${now}`, now === undefined ? "not on the list" : `now number ${now}`),
  ];
}

function rerankedRow(item, place, share, was, act) {
  const labels = item.labels.slice(0, 4).map((label) => make("span", { textContent: label }));
  const tail = item.tail ? make("span", { className: "tail", textContent: "long tail", title: "Outside the most popular items" }) : null;
  const reasons = item.reasons.map((reason) => make("li", { textContent: reason }));
  const buttons = ACTIONS.map(([event, verb]) => {
    const label = `${verb}: ${item.title}`;
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
      make("div", { className: "body" }, make("ul", { className: "reasons", "aria-label": "Why" }, ...reasons), score(item, share)),
      make("div", { className: "actions" }, ...buttons)),
  ];
}

function movement(item, place, was) {
  const by = was === undefined ? 0 : was - place;
  const [text, kind, words] = was === undefined
    ? [`● new`, "new", `new here; it was number ${item.first_rank} of the first stage`]
    : by > 0 ? [`▲${by}`, "up", `up ${by} from ${was}`]
    : by < 0 ? [`▼${-by}`, "down", `down ${-by} from ${was}`]
    : ["=", "same", "where it was"];
  const origin = was === undefined ? make("small", { textContent: `from ${item.first_rank}`, "aria-hidden": "true" }) : null;
  return shown(`move ${kind}`, text, words, origin);
}

/** A sign to look at, and the words to hear. */
function shown(className, sign, words, ...more) {
  return make("span", { className, title: words }, make("span", { textContent: sign, "aria-hidden": "true" }),
    make("span", { className: "hidden", textContent: words }), ...more);
}

function score(item, share) {
  const bar = make("span", { className: "share" });
  bar.style.setProperty("--share", share);
  const text = item.score === null ? "–" : item.score.toFixed(3);
  return make("div", { className: "score", title: "Score" }, bar, make("span", { className: "mono", textContent: text }));
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
