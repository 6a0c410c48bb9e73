// What stands around the lists: the history, the trace, the model card.

import { ago, find, icon, make, number } from "./dom.js";
import { words } from "./strings.js";

const ICONS = new Set(["view", "favourite", "dislike", "purchase"]);

/** A person's events, newest first. */
export function showHistory(events, total) {
  find("history-count").textContent = total ? number(total) : "";
  const rows = [...events].reverse().map((event) => {
    const value = event.value === null ? "" : ` ${number(event.value)}`;
    const when = new Date(event.time * 1000);
    return make(
      "li",
      { className: event.event },
      icon(ICONS.has(event.event) ? event.event : "dot"),
      make("span", { className: "title", textContent: event.title }),
      make("small", {}, `${words().done[event.event] ?? event.event}${value} · `,
        make("time", { dateTime: Number.isNaN(+when) ? "" : when.toISOString(), textContent: ago(event.time) })),
    );
  });
  find("history").replaceChildren(...(rows.length ? rows : [make("li", {
    className: "none",
    textContent: words().nothingYet,
  })]));
}

/** Where the milliseconds went; `trip` is what the browser measured. */
export function showTrace(trace, trip) {
  const total = trace.reduce((sum, step) => sum + step.ms, 0);
  find("total").textContent = `${total.toFixed(1)} ms`;
  find("trip").textContent = words().trip(trip.toFixed(0));
  find("bar").replaceChildren(...trace.map((step) => {
    const part = make("span", { title: `${step.name}: ${step.ms.toFixed(2)} ms`, className: step.skipped ? "skipped" : "" },
      make("span", { textContent: step.name }));
    part.style.flexGrow = Math.max(100 * step.ms / (total || 1), 0.5);
    return part;
  }));
  find("stages").replaceChildren(...trace.map((step) => make(
    "tr", {},
    make("th", { scope: "row", textContent: step.name }),
    ...[step.ms.toFixed(2), number(step.rows_in), number(step.rows_out), step.skipped ?? ""]
      .map((text) => make("td", { textContent: text })),
  )));
}

/** The model card. Metrics and notes may have any shape, so they are shown as they nest. */
export function showModel(card) {
  const { version, created, seed, counts, metrics, notes, pipeline, format, ...more } = card;
  const steps = (title, list) => [make("h3", { textContent: title }), make("ol", { className: "steps" }, ...list.map((step) =>
    make("li", {}, make("strong", { textContent: step.name }), make("span", { className: "mono muted", textContent: settings(step.settings) }))))];
  find("version").textContent = version;
  find("card").replaceChildren(
    make("dl", { className: "figures" }, ...Object.entries(counts).flatMap(([name, value]) =>
      [make("div", {}, make("dt", { textContent: words().counts[name] ?? name }), make("dd", { textContent: number(value) }))])),
    nested({ version, created, seed }),
    ...(metrics === undefined ? [] : [make("h3", { textContent: words().measured }), nested(metrics)]),
    ...(notes === undefined ? [] : [make("h3", { textContent: words().notes }), nested(notes)]),
    ...steps(words().sources, pipeline.retrieve), ...steps(words().stages, pipeline.stage),
    ...(Object.keys(more).length ? [make("h3", { textContent: words().also }), nested(more)] : []),
  );
}

const settings = (own) => Object.entries(own ?? {}).map(([name, value]) => `${name} ${JSON.stringify(value)}`).join(", ");

function nested(value) {
  if (Array.isArray(value)) return make("ul", { className: "plain" }, ...value.map((one) => make("li", {}, nested(one))));
  if (value !== null && typeof value === "object") {
    return make("dl", { className: "table" }, ...Object.entries(value).filter(([, own]) => own !== undefined && own !== null).map(([name, own]) =>
      make("div", {}, make("dt", { textContent: name.replaceAll("_", " ") }), make("dd", {}, nested(own)))));
  }
  return make("span", { textContent: typeof value === "number" && !Number.isInteger(value) ? number(value) : String(value) });
}
