// Why an item stands where it does, as a picture: signals for and against, the history, the steps, what if.

import * as api from "./api.js";
import { find, make, number } from "./dom.js";
import { words } from "./strings.js";

let asking = null;

/** Ask why, and show it; `shown`: whether the item is on the list, `length` of it. */
export async function showWhy(item, shown, fields, length) {
  asking?.abort();
  const mine = (asking = new AbortController());
  find("why-heading").textContent = shown ? words().whyTitle(item.title) : words().whyNotTitle(item.title);
  find("because").replaceChildren(make("p", { className: "muted", textContent: words().looking }));
  if (!find("why").open) find("why").showModal();
  try {
    const answer = await api.explain({ ...fields, item_id: item.item_id }, mine.signal);
    if (asking === mine) find("because").replaceChildren(...picture(answer, answer.items[0], length));
  } catch (error) {
    if (error.name !== "AbortError" && asking === mine) {
      find("because").replaceChildren(make("p", { role: "alert", textContent: error.message }));
    }
  }
}

function picture(answer, own, length) {
  const told = words();
  return [
    ...(own.place === null ? absent(own, told) : [make("p", { className: "placed", textContent: told.placed(own.place, length) })]),
    own.reasons.length ? make("ul", { className: "plain said" }, ...own.reasons.map((reason) => make("li", { textContent: reason.text }))) : null,
    ...kinds(own, told), ...carried(own, told), ...whatIf(answer, own, told), ...steps(own, told), ...sources(own, told),
    ...gates(answer, told),
  ].filter(Boolean);
}

function absent(own, told) {
  const missing = own.missing;
  if (!missing) return [];
  const stage = own.stages.findLast((step) => step.place_after === null)?.stage ?? "";
  const found = Object.entries(missing.found_by).sort(([, a], [, b]) => a - b);
  return [
    make("p", { className: "placed", textContent: told.missing[missing.why](missing, stage, own.rank) }),
    ...(found.length ? [make("h3", { textContent: told.foundBy }), list(found.map(([name, place]) => [name, number(place)]))] : []),
  ];
}

function kinds(own, told) {
  const shares = Object.entries(own.kinds).sort(([, a], [, b]) => b - a);
  if (!shares.length) return [];
  return [make("h3", { textContent: told.kindsTitle }), bars(shares.map(([kind, adds]) => [told.kinds[kind] ?? kind, adds])),
    make("p", { className: "note", textContent: told.kindsNote })];
}

function carried(own, told) {
  if (!own.sources.length || own.place === null) return [];
  const shares = own.history.slice(0, 5).map((one) => [one.title, one.adds]);
  const rest = own.history.slice(5).reduce((sum, one) => sum + one.adds, own.history_rest);
  if (own.history.length > 5) shares.push([told.carriedRest, rest]);
  return [make("h3", { textContent: told.carriedTitle }),
    ...(shares.length ? [bars(shares), make("p", { className: "note", textContent: told.carriedNote })] : [make("p", { className: "muted", textContent: told.nothingCarried })])];
}

function whatIf(answer, own, told) {
  if (own.place === null || !answer.rankings) return [];
  const names = own.without?.titles.map(told.titled).join(told.and);
  const text = own.without ? told.without(names, own.without.place, own.without.place_without) : told.withoutNone(answer.rankings);
  return [make("h3", { textContent: told.withoutTitle }), make("p", { className: own.without ? "whatif" : "muted", textContent: text })];
}

/** Places as chips, an arrow between them; steps that moved nothing stay out. */
function steps(own, told) {
  if (!own.stages.length) return [];
  const moved = own.stages.filter((step) => step.place !== step.place_after);
  const chip = (name, place, kind) => make("li", { className: kind }, make("small", { textContent: name }),
    make("strong", { textContent: place === null ? told.dropped : place }));
  return [make("h3", { textContent: told.stepsTitle }), make("ol", { className: "path" },
    ...(own.stages[0].place === null ? [] : [chip(told.found1, own.stages[0].place, "")]),
    ...moved.map((step) => chip(step.stage, step.place_after, step.place_after !== null && (step.place === null || step.place_after < step.place) ? "up" : "down")))];
}

function sources(own, told) {
  if (!own.sources.length) return [];
  const head = [told.source, told.ownScore, told.weight, told.adds].map((text) => make("th", { scope: "col", textContent: text }));
  const rows = own.sources.map((part) => make("tr", {}, make("th", { scope: "row", textContent: part.source }),
    ...[part.score === null ? "–" : number(part.score), number(part.weight), signed(part.adds)].map((text) => make("td", { textContent: text }))));
  const sum = own.fused === null ? null : make("tr", {}, make("th", { scope: "row", textContent: told.fused }), make("td"), make("td"), make("td", { textContent: signed(own.fused) }));
  return [make("details", { className: "parts" }, make("summary", { textContent: told.sourcesTitle }),
    make("div", { className: "scroll" }, make("table", {}, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...rows, sum))))];
}

function gates(answer, told) {
  const left = Object.entries(answer.gates);
  return left.length ? [make("h3", { textContent: told.gatesTitle }), list(left)] : [];
}

/** Bars to the right of the middle line for what adds, to its left for what takes away. */
function bars(shares) {
  const most = Math.max(...shares.map(([, adds]) => Math.abs(adds)), 1e-9);
  return make("ul", { className: "bars" }, ...shares.map(([name, adds]) => {
    const bar = make("span", { className: adds < 0 ? "minus" : "plus", "aria-hidden": "true" });
    bar.style.setProperty("--share", Math.abs(adds) / most);
    return make("li", {}, make("span", { className: "name", textContent: name }), make("span", { className: "track" }, bar),
      make("span", { className: "mono", textContent: signed(adds) }));
  }));
}

const list = (pairs) => make("dl", { className: "table" }, ...pairs.map(([name, text]) =>
  make("div", {}, make("dt", { textContent: name }), make("dd", { textContent: text }))));

const signed = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(2)}`;
