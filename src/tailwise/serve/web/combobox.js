// A searchable combobox, after the ARIA pattern "editable combobox with list autocomplete".

import { later, make } from "./dom.js";
import { words } from "./strings.js";

/**
 * Make an input search as one types.
 *   search(text) gives options {label, hint, value}; pick(value) is called with the chosen one's value.
 *   fail(error) is called when the search fails.
 */
export function combobox(input, list, { search, pick, fail }) {
  let options = [];
  let active = -1;
  let asked = 0;

  async function open() {
    const mine = ++asked;
    try {
      const found = await search(input.value.trim());
      if (mine === asked && document.activeElement === input) show(found);
    } catch (error) {
      fail(error);
    }
  }

  function show(found) {
    options = found;
    list.replaceChildren(...found.map((option, place) => make(
      "li",
      { id: `${list.id}-${place}`, role: "option", "aria-selected": "false", onclick: () => choose(place) },
      make("span", { textContent: option.label }),
      make("small", { textContent: option.hint }),
    )));
    if (!found.length) list.replaceChildren(make("li", { className: "none", textContent: words().nothingFound }));
    list.hidden = false;
    input.setAttribute("aria-expanded", "true");
    mark(found.length ? Math.max(found.findIndex((option) => option.label === input.value), 0) : -1);
  }

  function close() {
    asked++;
    list.hidden = true;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  }

  function mark(place) {
    list.children[active]?.setAttribute("aria-selected", "false");
    active = place;
    const option = options.length ? list.children[place] : undefined;
    if (!option) return;
    option.setAttribute("aria-selected", "true");
    option.scrollIntoView({ block: "nearest" });
    input.setAttribute("aria-activedescendant", option.id);
  }

  function choose(place) {
    const option = options[place];
    close();
    pick(option.value);
  }

  const keys = {
    ArrowDown: () => (list.hidden ? open() : mark(Math.min(active + 1, options.length - 1))),
    ArrowUp: () => (list.hidden ? open() : mark(Math.max(active - 1, 0))),
    Enter: () => !list.hidden && active >= 0 && choose(active),
    Escape: close,
  };
  input.addEventListener("keydown", (event) => {
    if (!(event.key in keys)) return;
    event.preventDefault();
    keys[event.key]();
  });
  input.addEventListener("input", later(open, 120));
  input.addEventListener("click", open);
  input.addEventListener("focus", () => input.select());
  input.addEventListener("blur", close);
  list.addEventListener("pointerdown", (event) => event.preventDefault()); // the input keeps the focus
}
