// Every word of the page, in English and in Chinese. A language is chosen by the browser, or by hand, which is kept.

const STRINGS = {
  en: {
    tag: "en", gap: " ", other: "中文", otherTag: "zh-CN", switch: "中文: switch the page to Chinese",
    skip: "Skip to the re-ranked list", motto: "The short list right, for this person, now.",
    aboutService: "About this service", model: "Model", api: "API",
    person: "Person", choosePerson: "Choose a person by id", searchPeople: "Search people…", people: "People",
    visitor: "Become a new visitor", tune: "Tune the list", diversity: "Diversity", tailShare: "Long-tail share",
    length: "Length of the list", reset: "Reset", modelDefault: "model default",
    diversityReset: "Diversity: back to the model's setting", tailReset: "Long-tail share: back to the model's setting",
    history: "History", addItem: "Add an item that this person likes", addLiked: "Add something liked…", items: "Items",
    historyLabel: "History, newest first", trace: "Trace", perStage: "Milliseconds per stage",
    stage: "Stage", ms: "ms", rowsIn: "Rows in", rowsOut: "Rows out", note: "Note",
    firstStage: "First stage", found: "what the sources found", firstOrder: "First-stage order",
    reranked: "Re-ranked", rerankedOrder: "Re-ranked order", modelCard: "Model card", close: "Close",
    nothingLeft: "Nothing is left to show this person. Choose another, or ask for fewer long-tail items.",
    moves: (up, down, fresh) => `${up} up, ${down} down, ${fresh} new`,
    newVisitor: "A new visitor: nothing is known yet, so what is popular comes first. Like something and watch the list follow.",
    emptyList: "The list is empty.",
    listNow: (first, up, down, fresh) => `First is ${first}. ${up} moved up, ${down} down, ${fresh} are new.`,
    did: { view: "Viewed", favourite: "Liked", dislike: "Disliked", purchase: "Purchased" },
    didTo: (done, title) => `${done} ${title}.`,
    showing: (user) => `Showing ${user}.`, notSaved: (why) => `Not saved: ${why}`,
    tryAgain: "Try again", dismiss: "Dismiss",
    eventsOf: (count) => `${count} events`, startNew: "not in the model: start as new", popular: "popular", tail: "long tail",
    nothingFound: "Nothing found; try a shorter word.",
    gone: "The service does not answer. Is it still running? Start it again, then retry.",
    key: "This service needs a key. With read, write and admin it may do all that this page shows.",
    answered: (status, text) => `The service answered ${status} ${text}.`,
    done: {
      view: "viewed", click: "clicked", favourite: "liked", cart: "put in the cart", purchase: "bought",
      rating: "rated", dwell: "stayed with", skip: "skipped", dislike: "disliked",
    },
    nothingYet: "Nothing yet. Like something on the list, or add something above, and the list will follow.",
    trip: (ms) => `to rank, ${ms} ms there and back`, justNow: "just now",
    measured: "Measured when it was fitted", notes: "Notes", sources: "Sources", stages: "Stages", also: "Also",
    counts: { items: "items", people: "people", events: "events" },
    act: { view: "View", favourite: "Like", dislike: "Dislike", purchase: "Purchase" },
    actOn: (verb, title) => `${verb}: ${title}`,
    notOnList: "not on the list", nowNumber: (place) => `now number ${place}`, outside: "Outside the most popular items",
    why: "Why?", whyItem: (title) => `Why? ${title}`, whyNot: "Why not?", whyNotItem: (title) => `Why not? ${title}`,
    isNew: "new", newHere: (rank) => `new here; it was number ${rank} of the first stage`, from: (rank) => `from ${rank}`,
    upFrom: (by, was) => `up ${by} from ${was}`, downFrom: (by, was) => `down ${by} from ${was}`, same: "where it was",
    score: "Score", reasons: "Why", needsJs: "The page needs JavaScript.",
    whyTitle: (title) => `Why “${title}”?`, whyNotTitle: (title) => `Why not “${title}”?`, looking: "Ranking again, to see…",
    placed: (place, of) => `Number ${place} of ${of} on the list`,
    kindsTitle: "What speaks for it, and against it",
    kindsNote: "Each kind of signal's share in the score, beside a candidate of which nothing is known.",
    kinds: {
      collaborative: "What others did", sequence: "What came last", text: "What it is about", popularity: "Popularity",
      context: "The moment", other: "Other signals",
    },
    carriedTitle: "What of the history carries it", carriedNote: "Exact shares in the fused score.",
    carriedRest: "all else", nothingCarried: "Nothing of the history does.",
    sourcesTitle: "Source by source", source: "Source", ownScore: "Its score", weight: "Weight", adds: "Adds", fused: "Together",
    stepsTitle: "Place after each step", found1: "found",
    withoutTitle: "What would change it",
    without: (titles, place, after) => `Without ${titles} it would ${after === null ? "leave the list" : `fall from ${place} to ${after}`}.`,
    titled: (title) => `“${title}”`, and: " and ",
    withoutNone: (tries) => `It stays where it is without any one, two or three of the likeliest (ranked again ${tries} times).`,
    gatesTitle: "Steps that left it alone", rulesTitle: "Rules", dropped: "dropped",
    missing: {
      seen: () => "The person has had it, and what was had is not shown again.",
      unknown: () => "The model knows no such item.",
      "no candidate": () => "It was not among the candidates.",
      "not found": (own) => `No source found it among its best${own.place_if_found ? `; it would be number ${own.place_if_found} had one found it` : ""}.`,
      dropped: (_, stage) => `The stage ${stage} dropped it.`,
      below: (_, __, rank) => `It is number ${rank}: others are better.`,
    },
    foundBy: "Its place in each source",
  },
  zh: {
    tag: "zh-CN", gap: "", other: "English", otherTag: "en", switch: "English：切换到英文页面",
    skip: "跳到重排后的列表", motto: "此刻，为这个人，把短名单排对。",
    aboutService: "关于本服务", model: "模型", api: "接口",
    person: "用户", choosePerson: "按编号选择用户", searchPeople: "搜索用户…", people: "用户",
    visitor: "以新访客身份开始", tune: "调整列表", diversity: "多样性", tailShare: "长尾占比",
    length: "列表长度", reset: "还原", modelDefault: "模型默认",
    diversityReset: "多样性：还原为模型设置", tailReset: "长尾占比：还原为模型设置",
    history: "历史", addItem: "添加这个人喜欢的物品", addLiked: "添加喜欢的物品…", items: "物品",
    historyLabel: "历史，最新的在前", trace: "耗时", perStage: "各阶段耗时（毫秒）",
    stage: "阶段", ms: "毫秒", rowsIn: "输入行数", rowsOut: "输出行数", note: "备注",
    firstStage: "初排", found: "各召回源找到的", firstOrder: "初排顺序",
    reranked: "重排", rerankedOrder: "重排后的顺序", modelCard: "模型卡片", close: "关闭",
    nothingLeft: "没有可以展示给这个人的物品了。请换一个人，或降低长尾占比。",
    moves: (up, down, fresh) => `${up} 项上升，${down} 项下降，${fresh} 项新进`,
    newVisitor: "新访客：目前一无所知，所以先展示热门。点一个喜欢，看列表如何跟上。",
    emptyList: "列表为空。",
    listNow: (first, up, down, fresh) => `第一位是${first}。${up} 项上升，${down} 项下降，${fresh} 项新进。`,
    did: { view: "已浏览", favourite: "已喜欢", dislike: "已标记不喜欢", purchase: "已购买" },
    didTo: (done, title) => `${done}：${title}。`,
    showing: (user) => `正在展示 ${user}。`, notSaved: (why) => `未能保存：${why}`,
    tryAgain: "重试", dismiss: "关闭",
    eventsOf: (count) => `${count} 条记录`, startNew: "模型中没有：作为新用户开始", popular: "热门", tail: "长尾",
    nothingFound: "没有找到，换个短一点的词试试。",
    gone: "服务没有应答。它还在运行吗？请重新启动后再试。",
    key: "此服务需要密钥。拥有 read、write 和 admin 权限的密钥可以使用本页的全部功能。",
    answered: (status, text) => `服务返回 ${status} ${text}。`,
    done: {
      view: "浏览", click: "点击", favourite: "喜欢", cart: "加入购物车", purchase: "购买",
      rating: "评分", dwell: "停留", skip: "跳过", dislike: "不喜欢",
    },
    nothingYet: "还没有记录。在列表中点一个喜欢，或在上方添加一项，列表就会跟上。",
    trip: (ms) => `用于排序，往返 ${ms} 毫秒`, justNow: "刚刚",
    measured: "训练时的评测", notes: "说明", sources: "召回源", stages: "阶段", also: "其他",
    counts: { items: "物品", people: "用户", events: "记录" },
    act: { view: "浏览", favourite: "喜欢", dislike: "不喜欢", purchase: "购买" },
    actOn: (verb, title) => `${verb}：${title}`,
    notOnList: "不在列表中", nowNumber: (place) => `现在第 ${place} 位`, outside: "不属于最热门的物品",
    why: "为什么？", whyItem: (title) => `为什么推荐：${title}`, whyNot: "为何没有？", whyNotItem: (title) => `为什么没有：${title}`,
    isNew: "新", newHere: (rank) => `新进列表；初排第 ${rank} 位`, from: (rank) => `原第 ${rank} 位`,
    upFrom: (by, was) => `从第 ${was} 位上升 ${by} 位`, downFrom: (by, was) => `从第 ${was} 位下降 ${by} 位`, same: "位置未变",
    score: "得分", reasons: "理由", needsJs: "此页面需要 JavaScript。",
    whyTitle: (title) => `为什么推荐“${title}”？`, whyNotTitle: (title) => `为什么没有“${title}”？`, looking: "正在重新排序以求证…",
    placed: (place, of) => `列表 ${of} 项中的第 ${place} 位`,
    kindsTitle: "什么支持它，什么反对它",
    kindsNote: "与一个毫无信息的候选相比，每类信号在得分中的份额。",
    kinds: {
      collaborative: "其他人的行为", sequence: "最近的行为", text: "内容与属性", popularity: "热门程度",
      context: "此刻的情境", other: "其他信号",
    },
    carriedTitle: "历史中的哪些在支持它", carriedNote: "在融合得分中的精确份额。",
    carriedRest: "其余全部", nothingCarried: "历史中没有。",
    sourcesTitle: "逐个来源", source: "来源", ownScore: "自身得分", weight: "权重", adds: "贡献", fused: "合计",
    stepsTitle: "每一步之后的位置", found1: "召回",
    withoutTitle: "什么会改变它",
    without: (titles, place, after) => `如果没有${titles}，它会${after === null ? "离开列表" : `从第 ${place} 位降到第 ${after} 位`}。`,
    titled: (title) => `“${title}”`, and: "和",
    withoutNone: (tries) => `去掉最有关的一项、两项或三项历史，它的位置都不变（重新排序 ${tries} 次）。`,
    gatesTitle: "未参与的步骤", rulesTitle: "规则", dropped: "被移除",
    missing: {
      seen: () => "这个人已经有过它，有过的不再展示。",
      unknown: () => "模型不认识这个物品。",
      "no candidate": () => "它不在候选之中。",
      "not found": (own) => `没有召回源把它找出来${own.place_if_found ? `；如果找到了，它会排在第 ${own.place_if_found} 位` : ""}。`,
      dropped: (_, stage) => `阶段 ${stage} 把它移除了。`,
      below: (_, __, rank) => `它排在第 ${rank} 位：其他物品更合适。`,
    },
    foundBy: "它在各个来源中的位置",
  },
};

const KEPT = "tailwise-language";

function wanted() {
  const kept = localStorage.getItem(KEPT);
  if (kept in STRINGS) return kept;
  const tongues = (navigator.languages ?? [navigator.language]).map((tag) => tag.toLowerCase().split("-")[0]);
  return tongues.find((tongue) => tongue in STRINGS) ?? "en";
}

let language = wanted();

/** The words of the page's language, by name. */
export const words = () => STRINGS[language];

/** What the browser, and the service, call the page's language. */
export const tag = () => words().tag;

/** The other language from now on, also when the page is opened again. */
export function switchLanguage() {
  language = language === "en" ? "zh" : "en";
  localStorage.setItem(KEPT, language);
}

/** Put the page's own words where `data-t` (text), `data-t-label`, `data-t-placeholder` and `data-t-title` name them. */
export function translate(root = document) {
  document.documentElement.lang = tag();
  for (const [name, attribute] of [["t", null], ["tLabel", "aria-label"], ["tPlaceholder", "placeholder"], ["tTitle", "title"], ["tLang", "lang"]]) {
    const marked = name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
    for (const element of root.querySelectorAll(`[data-${marked}]`)) {
      const text = words()[element.dataset[name]];
      if (attribute === null) element.textContent = text;
      else element.setAttribute(attribute, text);
    }
  }
}
