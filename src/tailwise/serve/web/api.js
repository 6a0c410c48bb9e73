// Talking to the service, which gives its reasons in the page's language. Every failure becomes an Error whose message a person can act on.

import { tag, words } from "./strings.js";

const KEY = "tailwise.key"; // kept until the tab is closed

/** Where the service asks for a key, so does the page, once for all requests that wait for it. */
async function call(path, options = {}) {
  const key = sessionStorage.getItem(KEY);
  let response;
  try {
    const known = key ? { Authorization: `Bearer ${key}` } : {};
    response = await fetch(path, { ...options, headers: { ...options.headers, "Accept-Language": tag(), ...known } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error(words().gone);
  }
  if (response.status === 401) {
    const given = sessionStorage.getItem(KEY) === key ? prompt(words().key)?.trim() : sessionStorage.getItem(KEY);
    if (given) {
      sessionStorage.setItem(KEY, given);
      return call(path, options);
    }
  }
  const answer = await response.json().catch(() => null);
  if (response.ok && answer !== null) return answer;
  throw new Error(answer?.detail ?? words().answered(response.status, response.statusText));
}

function post(path, body, signal) {
  return call(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal });
}

/** Hexadecimal digits that nobody else drew. */
export function fresh(bytes) {
  return Array.from(crypto.getRandomValues(new Uint8Array(bytes)), (b) => b.toString(16).padStart(2, "0")).join("");
}

export const recommend = (fields, signal) => post("/v1/recommend", { request_id: fresh(8), explain: true, context: { locale: tag() }, ...fields }, signal);
export const explain = (fields, signal) => post("/v1/explain", { request_id: fresh(8), context: { locale: tag() }, ...fields }, signal);
export const send = (event) => post("/v1/events", event);
export const person = (id) => call(`/v1/users/${encodeURIComponent(id)}?limit=200`);
export const model = () => call("/v1/model");
export const people = async (search) => (await call(`/v1/people?limit=30&search=${encodeURIComponent(search)}`)).people;
export const items = async (search) => (await call(`/v1/items?limit=12&search=${encodeURIComponent(search)}`)).items;
