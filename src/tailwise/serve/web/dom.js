// Building the page. Texts of items and people are hostile: they only ever become text nodes.

import { tag, words } from "./strings.js";

/** An element with properties (or attributes, where there is no such property) and children. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** One of the icons that index.html defines; decoration, so a label must stand beside it. */
export function icon(name) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  const use = document.createElementNS(space, "use");
  use.setAttribute("href", `#icon-${name}`);
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  svg.append(use);
  return svg;
}

export const find = (id) => document.getElementById(id);

/** Run `act` once things have been quiet for `ms`. */
export function later(act, ms) {
  let timer = 0;
  return (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => act(...given), ms);
  };
}

/** 1234.5 as people of the page's language write it. */
export const number = (value) => new Intl.NumberFormat(tag(), { maximumFractionDigits: 4 }).format(value);

/** "3 days ago" for a time in seconds since epoch. */
export function ago(time) {
  const seconds = time - Date.now() / 1000;
  const units = [["year", 31557600], ["month", 2629800], ["day", 86400], ["hour", 3600], ["minute", 60]];
  const speak = new Intl.RelativeTimeFormat(tag(), { numeric: "auto" });
  for (const [unit, size] of units) {
    if (Math.abs(seconds) >= size) return speak.format(Math.round(seconds / size), unit);
  }
  return words().justNow;
}
