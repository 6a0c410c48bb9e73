// Talking to the service. Every failure becomes an Error whose message a person can act on.

async function call(path, options = {}) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The service does not answer. Is it still running? Start it again, then retry.");
  }
  const answer = await response.json().catch(() => null);
  if (response.ok && answer !== null) return answer;
  throw new Error(answer?.detail ?? `The service answered ${response.status} ${response.statusText}.`);
}

function post(path, body, signal) {
  return call(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal });
}

/** Hexadecimal digits that nobody else drew. */
export function fresh(bytes) {
  return Array.from(crypto.getRandomValues(new Uint8Array(bytes)), (b) => b.toString(16).padStart(2, "0")).join("");
}

export const recommend = (fields, signal) => post("/v1/recommend", { request_id: fresh(8), explain: true, ...fields }, signal);
export const send = (event) => post("/v1/events", event);
export const person = (id) => call(`/v1/users/${encodeURIComponent(id)}?limit=200`);
export const model = () => call("/v1/model");
export const people = async (search) => (await call(`/v1/people?limit=30&search=${encodeURIComponent(search)}`)).people;
export const items = async (search) => (await call(`/v1/items?limit=12&search=${encodeURIComponent(search)}`)).items;
