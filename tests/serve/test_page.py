"""The page in a real browser, against a real server."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from tailwise.pipeline import Engine
from tailwise.types import Request

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
ARGUMENTS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is missing: pip install 'tailwise[dev]'")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is missing: apt-get install chromium"),
]


@dataclass
class Visit:
    """A page, and what went wrong or left the host meanwhile."""

    page: "Page"
    address: str
    engine: Engine
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def open(self, user: str | None = None, path: str = "/") -> None:
        self.page.goto(self.address + path + (f"#user={user}" if user else ""))
        self.page.wait_for_selector("#reranked > li, article")

    def titles(self, which: str = "reranked") -> list[str]:
        found: list[str] = self.page.locator(f"#{which} > li .title").all_inner_texts()
        return found

    def best(self, user: str) -> list[str]:
        rows = self.engine.answer(Request("r", user_id=user)).slate.columns["row"]
        return [self.engine.catalogue.title(row) for row in rows]

    def after(self, count: int) -> list[str]:
        """The list once the page announced for the ``count``-th time since it was opened."""
        self.page.wait_for_function("count => window.announced >= count", arg=count)
        return self.titles()


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


COUNT = """
window.announced = 0;
addEventListener("DOMContentLoaded", () => new MutationObserver(() => {
  if (document.getElementById("announce").textContent) window.announced++;
}).observe(document.getElementById("announce") ?? document.body, { childList: true }));
"""


@pytest.fixture
def visit(browser: "Browser", site: tuple[str, Engine], request: pytest.FixtureRequest) -> Iterator[Visit]:
    width, height, locale = (*getattr(request, "param", (1280, 900)), "en-US")[:3]
    viewport: sync_api.ViewportSize = {"width": width, "height": height}
    context = browser.new_context(viewport=viewport, locale=locale, reduced_motion="reduce")
    visit = Visit(context.new_page(), *site)
    visit.page.add_init_script(COUNT)
    visit.page.set_default_timeout(10_000)
    visit.page.on("console", lambda message: visit.complaints.append(message.text))
    visit.page.on("pageerror", lambda error: visit.complaints.append(str(error)))
    visit.page.on("request", lambda sent: visit.requests.append(sent.url))
    yield visit
    context.close()
    assert visit.complaints == []
    assert [url for url in visit.requests if not url.startswith(visit.address)] == []


def test_a_person_has_a_history_and_both_orders_with_movements(visit: Visit) -> None:
    visit.open("u1")

    answer = visit.engine.answer(Request("r", user_id="u1"))
    title = visit.engine.catalogue.title
    assert visit.titles() == [title(row) for row in answer.slate.columns["row"]]
    assert visit.titles("first") == [title(row) for row in answer.first.columns["row"][:10]]
    newest_first = [title(row) for row in answer.history.rows[::-1]]
    assert visit.page.locator("#history .title").all_inner_texts() == newest_first
    moves = [text.split("\n")[0] for text in visit.page.locator("#reranked .move").all_inner_texts()]
    ranks = answer.slate.columns["first_rank"].tolist()
    signs = [
        "● new" if r > 10 else f"▲{r - p}" if r > p else f"▼{p - r}" if r < p else "=" for p, r in enumerate(ranks, 1)
    ]
    assert moves == signs
    assert len(visit.page.locator("#reranked .reasons").all()) == 10
    assert visit.page.locator("#stages tr").count() == len(answer.trace)


def test_a_person_is_found_by_typing(visit: Visit) -> None:
    visit.open("u1")

    visit.page.fill("#person", "u2")
    visit.page.wait_for_selector("#people [role=option]:has-text('u23')")
    visit.page.click("#people [role=option]:has-text('u23')")
    visit.after(2)

    assert visit.page.url.endswith("#user=u23")
    assert visit.page.input_value("#person") == "u23"
    assert visit.titles() == visit.best("u23")


@pytest.mark.parametrize("event", ["view", "favourite", "dislike", "purchase"])
def test_a_click_is_stored_and_the_list_changes_at_once(visit: Visit, event: str) -> None:
    user = f"clicker-{event}"
    visit.open(user)
    before = visit.titles()

    with visit.page.expect_request("**/v1/events") as sent:
        visit.page.click(f"#reranked > li:nth-child(3) [data-event={event}]")
    after = visit.after(2)

    (stored,) = visit.engine.store.history(user, 10)
    assert visit.engine.catalogue.title(visit.engine.catalogue.rows([stored.item_id])[0]) == before[2]
    assert (stored.event, stored.position, stored.propensity) == (event, 3, 1.0)
    assert stored.request_id
    assert sent.value.post_data_json["event_id"]  # so that sending it again would change nothing
    assert before[2] not in after
    assert after == visit.best(user)
    assert visit.page.locator("#history .title").all_inner_texts() == [before[2]]


def test_a_new_visitor_starts_with_nothing_and_can_add_what_they_like(visit: Visit) -> None:
    visit.open("u1")
    visit.page.click("#visitor")
    visitor, popular = visit.page.input_value("#person"), visit.after(2)
    assert "A new visitor" in visit.page.inner_text("#about")
    assert "Nothing yet" in visit.page.inner_text("#history")

    visit.page.fill("#item", "armistice")
    visit.page.click("#items [role=option]")
    after = visit.after(3)

    assert visit.page.locator("#history .title").all_inner_texts() == ["The Borrowed Armistice"]
    assert after == visit.best(visitor)
    assert after != popular
    assert visit.page.inner_text("#about") == ""


def test_sliders_and_the_length_change_the_order(visit: Visit) -> None:
    visit.open("u4")
    plain = visit.titles()
    assert visit.page.inner_text("#diversity-value") == "model default"

    visit.page.fill("#diversity", "0.9")
    diverse = visit.after(2)
    visit.page.click("#diversity-reset")
    again = visit.after(3)
    visit.page.fill("#tail_share", "1")
    rare = visit.after(4)
    tails = visit.page.locator("#reranked .tail").count()
    visit.page.select_option("#k", "5")
    short = visit.after(5)

    assert diverse != plain
    assert again == plain
    assert rare != plain
    assert tails == 10
    assert len(short) == 5


def test_everything_works_with_the_keyboard_alone(visit: Visit) -> None:
    visit.open("u1")
    press, page = visit.page.keyboard.press, visit.page
    focused = "document.activeElement"

    press("Tab")
    assert page.evaluate(f"{focused}.textContent") == "Skip to the re-ranked list"
    page.focus("#person")
    press("ArrowDown")
    page.wait_for_selector("#people [role=option][aria-selected=true]:has-text('u1')")
    press("ArrowDown")
    assert page.get_attribute("#person", "aria-activedescendant") == "people-2"
    press("Enter")
    titles = visit.after(2)
    assert page.input_value("#person") == "u10"
    assert page.is_hidden("#people")

    for _ in range(80):
        if page.evaluate(f"{focused}.dataset.event") == "favourite":
            break
        press("Tab")
    press("Enter")
    after = visit.after(3)

    assert titles[0] not in after
    assert page.evaluate(f"{focused}.dataset.event") == "favourite"  # the focus stays at that place of the list
    assert page.evaluate(f"{focused}.getAttribute('aria-label')") == f"Like: {after[0]}"
    assert page.inner_text("#announce").startswith(f"Liked {titles[0]}. First is {after[0]}.")
    page.focus("#diversity")
    press("ArrowRight")
    visit.after(4)
    assert page.inner_text("#diversity-value") == "5 %"
    page.focus("#open-model")
    press("Enter")
    assert "c1ne3a00" in page.inner_text("#card")
    press("Escape")
    assert page.is_hidden("#card")
    assert page.evaluate(f"{focused}.id") == "open-model"


def test_every_control_has_a_name(visit: Visit) -> None:
    visit.open("u1")

    unnamed = visit.page.evaluate(
        """() => [...document.querySelectorAll("button, input, select, a, dialog")].filter((one) =>
          !(one.textContent.trim() || one.getAttribute("aria-label") || one.getAttribute("aria-labelledby") ||
            one.labels?.length)).map((one) => one.outerHTML)"""
    )

    assert unnamed == []


@pytest.mark.parametrize("visit", [(375, 812), (375, 812, "zh-CN")], indirect=True)
@pytest.mark.parametrize("path", ["/", "/docs"])
def test_nothing_is_wider_than_a_phone(visit: Visit, path: str) -> None:
    visit.open("u1", path)

    if path == "/":
        visit.page.click("summary")
        visit.page.click("#reranked .ask >> nth=0")
        visit.page.wait_for_selector("#because .bars")
        assert visit.page.evaluate("document.getElementById('why').scrollWidth") <= 375
    assert visit.page.evaluate("document.documentElement.scrollWidth") == 375


def test_a_hostile_title_is_shown_as_text(visit: Visit) -> None:
    visit.open("u1")
    visit.page.on("dialog", lambda dialog: visit.complaints.append(dialog.message))
    title = visit.engine.catalogue.title(5)
    assert title.startswith("<img src=x onerror=")

    visit.page.fill("#item", "onerror")
    assert visit.page.inner_text("#items [role=option] span") == title
    visit.page.click("#items [role=option]")
    visit.after(2)

    assert visit.page.locator("#history .title").first.inner_text() == title
    assert title in visit.page.inner_text("#announce")
    assert visit.page.locator("main img, #announce img").count() == 0


def test_a_service_that_is_gone_is_told_and_can_be_tried_again(visit: Visit) -> None:
    visit.open("u7")
    before = visit.titles()
    visit.page.route("**/v1/events", lambda route: route.abort())

    visit.page.click("#reranked > li:first-child [data-event=dislike]")
    visit.page.wait_for_selector("#toast p")
    assert re.match(r"Not saved: The service does not answer\. ", visit.page.inner_text("#toast p"))
    visit.page.unroute("**/v1/events")
    visit.page.click("#toast button:has-text('Try again')")
    after = visit.after(2)

    assert before[0] not in after
    assert len(visit.engine.store.history("u7", 10)) == 1
    assert visit.complaints.pop().startswith("Failed to load resource: net::ERR_FAILED")


def test_the_routes_are_described_without_a_foreign_host(visit: Visit) -> None:
    visit.open(path="/docs")

    routes = visit.page.locator("article h2").all_inner_texts()
    assert "POST /v1/rank" in routes
    assert "DELETE /v1/users/{user_id}" in routes
    assert "candidates" in visit.page.inner_text("#RequestForm")


CHINESE = re.compile("[\u4e00-\u9fff]")
WORDS = "el => [el.innerText, ...[...el.querySelectorAll('*')].flatMap((one) => [one.ariaLabel, one.title])]"


@pytest.mark.parametrize("visit", [(1280, 900, "zh-TW")], indirect=True)
def test_a_chinese_browser_gets_a_chinese_page(visit: Visit) -> None:
    visit.open("u1")

    page = visit.page
    assert page.evaluate("document.documentElement.lang") == "zh-CN"
    assert page.inner_text("#person-heading") == "用户"
    assert page.inner_text("#diversity-value") == "模型默认"
    assert page.inner_text("#announce").startswith("正在展示 u1。第一位是")
    assert page.get_attribute("#person", "placeholder") == "搜索用户…"
    assert page.get_attribute("#reranked [data-event=favourite] >> nth=0", "title") == "喜欢"
    assert page.inner_text("#language") == "English"
    for own in ("nav", ".tune", "#person-heading", ".trace summary"):
        said = [text for text in page.eval_on_selector(own, WORDS) if text and not text.isascii()]
        assert all(CHINESE.search(text) for text in said)


@pytest.mark.parametrize("visit", [(1280, 900, "fr-FR")], indirect=True)
def test_the_language_can_be_switched_and_is_kept(visit: Visit) -> None:
    visit.open("u1")
    assert visit.page.inner_text("#person-heading") == "Person"

    visit.page.click("#language")
    visit.page.wait_for_selector("#person-heading:has-text('用户')")
    visit.page.reload()
    visit.page.wait_for_selector("#reranked > li")

    assert visit.page.inner_text("#tune-heading") == "调整列表"
    visit.page.click("#open-model")
    assert "召回源" in visit.page.inner_text("#card")
    visit.page.click("#close-model")
    visit.page.click("#language")
    visit.page.wait_for_selector("#tune-heading:has-text('Tune the list')")


def test_every_word_is_there_in_both_languages(visit: Visit) -> None:
    visit.open("u1")

    odd = visit.page.evaluate(
        """async () => {
          const { words, switchLanguage } = await import("/static/strings.js");
          const flat = (own, at = "") => Object.entries(own).flatMap(([name, value]) =>
            typeof value === "object" ? flat(value, `${at}${name}.`) : [[`${at}${name}`, typeof value]]);
          const first = flat(words()).map(String);
          switchLanguage();
          const second = flat(words()).map(String);
          switchLanguage();
          localStorage.clear();
          const marked = [...document.querySelectorAll("*")].flatMap((one) => Object.entries(one.dataset)
            .filter(([name]) => /^t([A-Z]|$)/.test(name)).map(([, value]) => value));
          return [first.filter((one) => !second.includes(one)), second.filter((one) => !first.includes(one)),
            marked.filter((name) => typeof words()[name] !== "string"), first.length, marked.length];
        }"""
    )

    assert odd[:3] == [[], [], []]
    assert odd[3] > 100
    assert odd[4] > 30


@pytest.mark.parametrize("visit", [(1280, 900), (1280, 900, "zh-CN")], indirect=True)
def test_why_is_answered_with_a_picture(visit: Visit) -> None:
    visit.open("u1")
    explained = visit.engine.explain(user_id="u1", k=10)
    places = [own.item_id for own in explained.items]
    moved = next(n for n, own in enumerate(explained.items) if own.without is not None)
    own = visit.engine.explain(user_id="u1", k=10, item_id=places[moved]).items[0]
    assert own.without is not None

    visit.page.click(f"#reranked > li:nth-child({moved + 1}) .ask")
    visit.page.wait_for_selector("#because .bars")

    shares = sorted(own.kinds.values(), reverse=True)
    shown = visit.page.locator("#because .bars >> nth=0").locator(".mono").all_inner_texts()
    assert shown == [f"{'−' if share < 0 else '+'}{abs(share):.2f}" for share in shares]
    assert own.title in visit.page.inner_text("#why-heading")
    for title in own.without.titles:
        assert title in visit.page.inner_text(".whatif")
    chips = visit.page.locator("#because .path strong").all_inner_texts()
    assert (chips[0], chips[-1]) == (str(own.first_rank), str(own.place))
    visit.page.keyboard.press("Escape")
    assert visit.page.is_hidden("#because")
    assert visit.page.evaluate("document.activeElement.className") == "ask"


def test_why_not_is_answered_too(visit: Visit) -> None:
    visit.open("u1")
    item = visit.page.locator("#first .ask").first
    title = item.get_attribute("aria-label")

    item.click()
    visit.page.wait_for_selector("#because .placed")

    assert title == f"Why not? {visit.page.inner_text('#why-heading')[9:-2]}"
    assert re.match(r"It is number \d+: others are better\.", visit.page.inner_text("#because .placed"))


def test_a_hostile_title_explains_as_text(visit: Visit) -> None:
    title = visit.engine.catalogue.title(5)
    user = "hostile"
    visit.open(user)
    visit.page.fill("#item", "onerror")
    visit.page.click("#items [role=option]")
    visit.after(2)

    visit.page.click("#reranked .ask >> nth=0")
    visit.page.wait_for_selector("#because .said")

    assert title in visit.page.inner_text("#because")
    assert visit.page.locator("#because img, #because b").count() == 0
