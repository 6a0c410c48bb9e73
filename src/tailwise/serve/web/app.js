// The page: who is asked for, with which settings; every change asks the service again and shows what moved.

import * as api from "./api.js";
import { combobox } from "./combobox.js";
import { find, later, make } from "./dom.js";
import { showLists } from "./lists.js";
import { showHistory, showModel, showTrace } from "./panels.js";
import { switchLanguage, translate, words } from "./strings.js";
import { showWhy } from "./why.js";

const state = { user: null, answer: null, asking: null, shown: null, card: null };
const KNOBS = ["diversity", "tail_share"];
const set = new Set(); // knobs that were moved; the others stay with the model

/** Ask for the list and show it. The newest question wins. */
async function refresh(why = "") {
  state.asking?.abort();
  const asking = (state.asking = new AbortController()), fields = asked();
  document.body.classList.add("busy");
  try {
    const start = performance.now();
    const answer = await api.recommend(fields, asking.signal);
    const trip = performance.now() - start;
    const stored = await api.person(state.user);
    if (state.asking !== asking) return;
    show(answer, stored, trip, why);
  } catch (error) {
    if (error.name !== "AbortError" && state.asking === asking) toast(error.message, () => refresh(why));
  } finally {
    if (state.asking === asking) document.body.classList.remove("busy");
  }
}

/** What is asked for, as it stands. */
function asked() {
  const fields = { user_id: state.user, k: Number(find("k").value) };
  for (const name of set) fields[name] = Number(find(name).value);
  return fields;
}

function show(answer, stored, trip, why) {
  state.answer = answer;
  const { up, down, fresh } = showLists(answer, act, (item, shown) => showWhy(item, shown, asked(), answer.items.length));
  showHistory(stored.events, stored.total);
  showTrace(answer.trace, trip);
  const none = answer.items.length === 0;
  find("empty").hidden = !none;
  find("empty").textContent = words().nothingLeft;
  find("moved").textContent = none ? "" : words().moves(up, down, fresh);
  find("about").textContent = stored.total ? "" : words().newVisitor;
  const top = none ? words().emptyList : words().listNow(answer.items[0].title, up, down, fresh);
  find("announce").textContent = why ? why + words().gap + top : top;
}

/** Tell the service what was done with an item, then ask again. */
async function act(item, place, event) {
  const shown = place && { request_id: state.answer.request_id, position: place, propensity: item.propensity };
  const told = { user_id: state.user, item_id: item.item_id, event, event_id: api.fresh(12), ...shown };
  const tell = async () => {
    try {
      await api.send(told); // its event_id makes a second try harmless
    } catch (error) {
      toast(words().notSaved(error.message), tell);
      return;
    }
    if (told.user_id === state.user) await refresh(words().didTo(words().did[event], item.title));
  };
  await tell();
}

function choose(user) {
  state.user = user;
  find("person").value = user;
  history.replaceState(null, "", `#user=${encodeURIComponent(user)}`);
  find("announce").textContent = "";
  return refresh(words().showing(user));
}

let hiding = 0;

/** Say what went wrong and offer to try again. */
function toast(message, retry = null) {
  const box = find("toast");
  const hide = () => box.replaceChildren();
  const again = retry && make("button", { type: "button", textContent: words().tryAgain, onclick: () => { hide(); retry(); } });
  const close = make("button", { type: "button", textContent: words().dismiss, onclick: hide });
  box.replaceChildren(make("div", {}, make("p", { textContent: message }), again, close));
  clearTimeout(hiding);
  hiding = setTimeout(hide, 15000);
}

function knob(name) {
  const input = find(name), reset = find(`${name}-reset`), ask = later(() => refresh(), 150);
  const tell = () => {
    find(`${name}-value`).textContent = set.has(name) ? `${Math.round(input.value * 100)} %` : words().modelDefault;
    reset.hidden = !set.has(name);
  };
  input.addEventListener("input", () => { set.add(name); tell(); ask(); });
  reset.addEventListener("click", () => { set.delete(name); input.value = 0; tell(); input.focus(); refresh(); });
  tell();
  return tell;
}

async function findPeople(text) {
  const found = (await api.people(text === state.user ? "" : text))
    .map(({ user_id, events }) => ({ label: user_id, hint: words().eventsOf(events), value: user_id }));
  const exact = found.some(({ value }) => value === text);
  return text && !exact ? [...found, { label: text, hint: words().startNew, value: text }] : found;
}

async function findItems(text) {
  return (await api.items(text)).map((item) => ({ label: item.title, hint: item.tail ? words().tail : words().popular, value: item }));
}

async function start() {
  translate();
  const tellers = KNOBS.map(knob);
  find("k").addEventListener("change", () => refresh());
  find("visitor").addEventListener("click", () => choose(`visitor-${api.fresh(4)}`));
  find("open-model").addEventListener("click", () => find("model").showModal());
  find("close-model").addEventListener("click", () => find("model").close());
  find("model").addEventListener("click", (event) => event.target === find("model") && find("model").close());
  const fail = (error) => toast(error.message);
  find("language").addEventListener("click", () => {
    switchLanguage();
    translate();
    tellers.forEach((tell) => tell());
    if (state.card) showModel(state.card);
    refresh();
  });
  find("close-why").addEventListener("click", () => find("why").close());
  find("why").addEventListener("click", (event) => event.target === find("why") && find("why").close());
  combobox(find("person"), find("people"), { search: findPeople, pick: choose, fail });
  combobox(find("item"), find("items"), {
    search: findItems, fail, pick: (item) => { find("item").value = ""; act(item, 0, "favourite"); },
  });
  addEventListener("hashchange", () => named() && named() !== state.user && choose(named()));
  try {
    showModel((state.card = await api.model()));
    const [first] = await api.people("");
    await choose(named() ?? first?.user_id ?? `visitor-${api.fresh(4)}`);
  } catch (error) {
    toast(error.message, () => location.reload());
  }
}

const named = () => new URLSearchParams(location.hash.slice(1)).get("user");

start();
