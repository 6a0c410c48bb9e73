// The routes of /openapi.json as a page: what each takes and gives, and a command that works.

import { find, make } from "./dom.js";

const name = (schema) => schema?.$ref?.split("/").pop();

/** A description written for the source: code marks go, lines of one paragraph join. */
const prose = (text) => text.replaceAll("``", "").replace(/(?<!\n)\n(?!\n)/g, " ");

/** A schema in a few words, with links to the forms that it names. */
function words(schema) {
  if (schema === undefined) return ["anything"];
  if (schema.$ref) return [make("a", { href: `#${name(schema)}`, textContent: name(schema) })];
  const either = schema.anyOf ?? schema.oneOf;
  if (either) return either.flatMap((one, index) => (index ? [" or ", ...words(one)] : words(one)));
  if (schema.enum) return [`one of ${schema.enum.join(", ")}`];
  if (schema.type === "array") return ["list of ", ...words(schema.items)];
  const rules = { minimum: "≥", exclusiveMinimum: ">", maximum: "≤", exclusiveMaximum: "<", minLength: "length ≥", maxLength: "length ≤" };
  const limits = Object.entries(rules).filter(([rule]) => rule in schema).map(([rule, sign]) => `${sign} ${schema[rule]}`);
  return [[schema.type ?? "anything", ...limits].join(" ")];
}

function table(rows) {
  const head = ["Name", "Type", "Default"].map((text) => make("th", { scope: "col", textContent: text }));
  return make("div", { className: "scroll" }, make("table", {}, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...rows)));
}

function row(field, schema, required) {
  const preset = required ? "required" : schema.default === undefined || schema.default === null ? "" : JSON.stringify(schema.default);
  return make("tr", {}, make("th", { scope: "row", className: "mono", textContent: field }), make("td", {}, ...words(schema)),
    make("td", { className: required ? "" : "mono", textContent: preset }));
}

function route(path, method, about) {
  const body = about.requestBody?.content["application/json"];
  const gives = about.responses["200"]?.content?.["application/json"]?.schema;
  const parameters = (about.parameters ?? []).map((one) => row(one.name, one.schema, one.required));
  const url = location.origin + path;
  const command = body
    ? `curl ${url} -H 'Content-Type: application/json' \\\n  -d '${JSON.stringify(body.example)}'`
    : `curl ${method === "get" ? "" : `-X ${method.toUpperCase()} `}'${url}'`;
  return make(
    "article", { className: "panel" },
    make("h2", {}, make("span", { className: `verb ${method}`, textContent: method.toUpperCase() }), " ", make("span", { className: "mono", textContent: path })),
    make("p", { textContent: prose(about.description ?? about.summary) }),
    parameters.length ? table(parameters) : null,
    body ? make("p", {}, "Takes ", ...words(body.schema), ".") : null,
    name(gives) ? make("p", {}, "Gives ", ...words(gives), ".") : null,
    make("pre", { textContent: command, tabIndex: 0 }),
  );
}

function form(title, schema) {
  const needed = new Set(schema.required ?? []);
  const rows = Object.entries(schema.properties ?? {}).map(([field, own]) => row(field, own, needed.has(field)));
  return make("article", { className: "panel", id: title }, make("h3", { textContent: title }),
    schema.description ? make("p", { textContent: prose(schema.description) }) : null, rows.length ? table(rows) : null);
}

try {
  const answer = await fetch("/openapi.json");
  if (!answer.ok) throw new Error(`The service answered ${answer.status}; reload the page.`);
  const { paths, components } = await answer.json();
  find("routes").replaceChildren(...Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, about]) => route(path, method, about))));
  find("forms").replaceChildren(...Object.entries(components.schemas).filter(([, schema]) => schema.properties)
    .map(([title, schema]) => form(title, schema)));
} catch (error) {
  find("routes").replaceChildren(make("p", { className: "empty", textContent: error.message }));
}
