"use strict";
// What HTML cannot do by itself: curves that answer, two arms against each other, who misses a digit. No library but
// Vega's; text from records only ever becomes a text node.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const root = document.documentElement;
  root.classList.add("scripted");

  /** An element with attributes and children; text stays text. */
  const make = (tag, attributes = {}, ...children) => {
    const one = /^(svg|path)$/.test(tag) ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) one.setAttribute(name, value);
    one.append(...children.map(String => String instanceof Node ? String : document.createTextNode(String)));
    return one;
  };
  const swatch = (arm) => make("svg", { class: "swatch", viewBox: "0 0 16 16", width: 14, height: 14, "aria-hidden": "true" },
    make("path", { d: arm.marker, transform: "translate(8 8) scale(5)", fill: arm.colour }));
  const stroke = (arm) => make("svg", { class: "swatch", viewBox: "0 0 36 16", width: 32, height: 14, "aria-hidden": "true" },
    make("path", { d: "M1,8H35", stroke: arm.colour, "stroke-width": 2.6, "stroke-dasharray": arm.dash.join(" ") }));
  const signed = (value, digits = 2) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(digits);
  const address = (hash) => { history.replaceState(null, "", hash || "#"); $("nowhere").textContent = ""; };
  const ofTheme = (text) => text.replace(/var\((--\w+)\)/g, (_, name) => getComputedStyle(root).getPropertyValue(name).trim());

  // --- curves ---
  const accuracy = (measure) => measure.endsWith("accuracy");
  const height = (measure, v) => accuracy(measure) ? -Math.log10(Math.max(100 + data.floor - v, data.floor / 2)) : v;
  const off = new Set();
  let view, rows = [], number = 0;

  const rowsOf = (index, measure) => {
    const arm = data.arms[index], seeds = arm.curves[measure], out = [];
    const add = (kind, key, seed, epoch, value) => value == null || out.push(
      { arm: index, kind, key, seed, epoch, value, y: height(measure, value), colour: ofTheme(arm.colour), dash: arm.dash });
    seeds.forEach((values, r) => values.forEach((v, e) => add("seed", `${index} ${r}`, `seed ${arm.seeds[r]}`, e + 1, v)));
    for (let e = 0; e < (seeds[0] || []).length; e++) {
      const there = seeds.map((values) => values[e]).filter((v) => v != null);
      if (there.length) add("mean", `${index} mean`, `mean of ${there.length}`, e + 1, there.reduce((a, b) => a + b) / there.length);
    }
    for (const [epoch, v] of arm.published_curves[measure] || []) add("published", `${index} published`, "published", epoch, v);
    return out;
  };

  const draw = async () => {
    const measure = $("curve-measure").value, group = data.groups[$("curve-group").value], mine = ++number;
    rows = group.arms.flatMap((index) => rowsOf(index, measure));
    if ($("published-key")) $("published-key").hidden = !rows.some((row) => row.kind === "published");
    const spec = JSON.parse(ofTheme(JSON.stringify(data.charts[measure])));
    spec.data.find((one) => one.name === "rows").values = rows;
    spec.width = $("chart").clientWidth;
    spec.height = Math.max(280, Math.min(400, spec.width * 0.5));
    spec.description = `Curves of ${measure.replaceAll("_", " ")}, ${group.name}; last epochs stand in the leaderboard`;
    const made = await vegaEmbed($("chart"), spec, { mode: "vega", renderer: "canvas", actions: false, tooltip: false, defaultStyle: false, logLevel: 1 });
    if (mine !== number) return made.finalize();
    if (view) view.finalize();
    view = made.view;
    toggle(group);
    $("chart").dataset.drawn = `${group.name} ${measure}`;
  };
  const shown = (group) => group.arms.filter((index) => !off.has(index));
  const legend = () => {
    const group = data.groups[$("curve-group").value], boxes = group.arms.map((index) => {
      const box = make("input", { type: "checkbox", "data-arm": index });
      box.checked = !off.has(index);
      box.onchange = () => { box.checked ? off.delete(index) : off.add(index); toggle(group); };
      return make("label", { title: data.arms[index].label }, box, stroke(data.arms[index]), data.arms[index].name);
    });
    $("legend").replaceChildren($("legend").firstElementChild, ...boxes);
  };
  const toggle = (group) => { view.signal("shown", shown(group)).runAsync(); $("chart").dataset.shown = String(shown(group).length); };
  const setAll = (on) => {
    const group = data.groups[$("curve-group").value];
    group.arms.forEach((index) => on ? off.delete(index) : off.add(index));
    legend();
    toggle(group);
  };
  /** The row at the epoch under the pointer whose point is nearest in height, within 40 pixels. */
  const nearest = (px, py) => {
    const y = view.scale("y"), epoch = Math.round(view.scale("x").invert(px));
    let best = null, least = 40;
    for (const row of rows) {
      if (row.epoch !== epoch || off.has(row.arm)) continue;
      const d = Math.abs(y(row.y) - py);
      if (d < least) [best, least] = [row, d];
    }
    return best;
  };
  const point = (event) => {
    if (!view) return;
    const box = $("chart").getBoundingClientRect(), origin = view.origin();
    const row = nearest(event.clientX - box.left - origin[0], event.clientY - box.top - origin[1]), tip = $("tip");
    tip.hidden = !row;
    view.signal("near", row ? row.key : "").runAsync();
    if (!row) return;
    const unit = accuracy($("curve-measure").value) ? row.value.toFixed(2) + " %" : row.value.toPrecision(3) + " nats";
    tip.textContent = `${data.arms[row.arm].name}, ${row.seed}, epoch ${row.epoch}: ${unit}`;
    const left = event.clientX - box.left + 14;
    tip.style.left = Math.max(0, Math.min(left, box.width - tip.offsetWidth - 4)) + "px";
    tip.style.top = event.clientY - box.top - 38 + "px";
  };
  $("chart").addEventListener("pointermove", point);
  $("chart").addEventListener("pointerleave", () => { $("tip").hidden = true; view && view.signal("near", "").runAsync(); });
  $("curve-group").onchange = () => { legend(); draw(); };
  $("curve-measure").onchange = draw;
  $("all-arms").onclick = () => setAll(true);
  $("no-arms").onclick = () => setAll(false);
  legend();
  const whenSeen = (element, act) => {
    const watch = new IntersectionObserver((seen) => seen.some((one) => one.isIntersecting) && (watch.disconnect(), act()), { rootMargin: "600px" });
    watch.observe(element);
  };
  whenSeen($("chart-figure"), () => {
    draw();
    let width = $("chart").clientWidth;
    new ResizeObserver(() => { if ($("chart").clientWidth !== width) { width = $("chart").clientWidth; draw(); } }).observe($("chart"));
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => view && draw());

  // --- who misses an image ---
  const wrong = (arm, place) => arm.guesses.map((guess) => Number(guess[place])).filter((digit) => digit !== data.sets[arm.set].labels[place]);
  const missedBy = (arm, place) => wrong(arm, place).length;
  const picture = (set, place, more = "") => {
    const sheet = document.querySelector(`#tiles${set} .digit`), one = make("span", { class: `${sheet ? sheet.className : "digit none"} ${more}` });
    one.style.setProperty("--x", place % data.across);
    one.style.setProperty("--y", Math.floor(place / data.across));
    if (sheet && sheet.classList.contains("none")) one.textContent = data.sets[set].labels[place];
    return one;
  };
  let added = false, leaving = false; // whether the open digit has a history entry of its own; whether it is being left
  let kept = 0; // how far down one was: the browser would scroll to what the older address names
  const stay = () => { scrollTo(0, kept); requestAnimationFrame(() => scrollTo(0, kept)); };
  const openDigit = (set, place, fromAddress = false) => {
    const one = data.sets[set], label = one.labels[place], n = one.numbers[place];
    const rowsOfArms = data.arms.filter((arm) => arm.set === set && arm.guesses.length).map((arm) => {
      const seeds = arm.guesses.map((guess, r) => make("span",
        { class: "guess" + (Number(guess[place]) === label ? "" : " wrong"), title: `seed ${arm.seeds[r]}: ${guess[place]}` }, Number(guess[place]) === label ? "·" : guess[place]));
      return make("tr", {}, make("th", { scope: "row" }, swatch(arm), " ", arm.id), make("td", {}, `${missedBy(arm, place)} of ${arm.guesses.length}`), make("td", { class: "seeds" }, ...seeds));
    });
    const notes = [];
    if (n in one.errors) notes.push(make("p", { class: "flag" }, one.errors[n] === null
      ? "A confirmed label error: most of five human raters refused this label, and did not agree on another."
      : `A confirmed label error: most of five human raters read ${one.errors[n]}, not ${label}.`));
    $("digit-body").replaceChildren(
      make("h3", { id: "digit-title" }, `Test image ${n} of ${one.title}, label ${label}`), picture(set, place, "big"), ...notes,
      make("p", {}, "One sign per seed: a dot where it is right, else the digit that it takes the image for."),
      make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "arms and seeds" }, make("table", { class: "who" },
        make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "arm"), make("th", { scope: "col" }, "missed by"), make("th", { scope: "col" }, "seeds"))), make("tbody", {}, ...rowsOfArms))));
    $("nowhere").textContent = "";
    kept = scrollY;
    if (!$("digit").open) $("digit").showModal();
    if (fromAddress) return;
    added = true;
    history.pushState(null, "", `#digits/${n}${set ? `/${set + 1}` : ""}`);
  };
  $("digit").onclose = () => {
    if (!location.hash.startsWith("#digits/")) return; // Back has left it
    if (added) { leaving = true; history.back(); } else address("#digits");
    added = false;
  };
  document.addEventListener("click", (event) => {
    const tile = event.target.closest(".tile"), copy = event.target.closest("[data-copy]"), more = event.target.closest(".more");
    if (tile) openDigit(Number(tile.dataset.set), Number(tile.dataset.image));
    if (copy) copyText(copy);
    if (more) { const open = $(more.dataset.tiles).classList.toggle("short"); more.setAttribute("aria-expanded", !open); more.textContent = open ? "show all" : "show fewer"; }
    if (event.target === $("digit")) $("digit").close();
  });
  const copyText = (button) => {
    const range = document.createRange();
    range.selectNodeContents($(button.dataset.copy));
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    document.execCommand("copy"); // works from a file and without a permission, where navigator.clipboard may not
    button.textContent = "copied";
    setTimeout(() => { button.textContent = "copy"; }, 1500);
  };

  // --- two arms ---
  const fill = (select, chosen) => {
    for (const group of data.groups) {
      select.append(make("optgroup", { label: group.name }, ...group.arms.map((index) => make("option", { value: index }, data.arms[index].id))));
    }
    select.value = chosen;
    select.onchange = () => { compare(); address(`#compare/${data.arms[$("arm-a").value].id}/${data.arms[$("arm-b").value].id}`); };
  };
  const groupOf = (index) => data.groups.findIndex((group) => group.arms.includes(index));
  const pair = (a, b) => {
    if (data.pairs[`${a} ${b}`]) return data.pairs[`${a} ${b}`];
    const [mean, low, high, chance] = data.pairs[`${b} ${a}`] || [null];
    return mean == null ? null : [-mean, high == null ? null : -high, low == null ? null : -low, 1 - chance];
  };
  const compare = () => {
    const [i, j] = [Number($("arm-a").value), Number($("arm-b").value)], a = data.arms[i], b = data.arms[j], found = pair(i, j);
    if (i === j || !found) return $("comparison").replaceChildren(make("p", {}, i === j ? "Choose two different arms." : "These arms cannot be compared: they are of different data sets, or every seed of one diverged."));
    const [mean, low, high, chance] = found, apart = groupOf(i) !== groupOf(j), study = (arm) => arm.id.split("/")[0];
    const named = (arm) => apart || a.name === b.name ? arm.id : arm.name;
    const other = apart ? ` Different ${study(a) === study(b) ? "parts of a study" : "studies"}: network, optimiser or epochs may differ too.` : "";
    const interval = low == null ? ", too few seeds for an interval" : `, 95 % interval [${signed(low)}, ${signed(high)}]`;
    const sure = low == null ? "" : low > 0 || high < 0 ? " The interval leaves out 0: taken alone, this pair differs." : " The interval holds 0: no difference is shown.";
    const text = make("p", { class: "versus" }, make("b", {}, `${named(a)} − ${named(b)}: ${signed(mean)} points`),
      `${interval}.${sure} A seed of ${named(a)} beats a seed of ${named(b)} in ${Math.round(100 * chance)} % of pairs.${other}`);
    $("comparison").replaceChildren(text, make("div", { class: "sides" }, perDigit(a, b, named), disagreements(a, b)));
  };
  const hatched = (colour) => `repeating-linear-gradient(135deg, ${colour} 0 3px, transparent 3px 6px)`;
  const perDigit = (a, b, named) => {
    const paint = (arm) => arm === b && a.colour === b.colour ? hatched(b.colour) : arm.colour;
    const key = (arm) => make("span", {}, make("i", { class: "paint", style: `--c:${paint(arm)}` }), named(arm));
    const most = Math.max(0.01, ...a.by_digit, ...b.by_digit);
    const bar = (arm, k) => { const one = make("i", {}, arm.by_digit[k].toFixed(1)); one.style.setProperty("--w", `${85 * arm.by_digit[k] / most}%`); one.style.setProperty("--c", paint(arm)); return one; };
    const lines = a.by_digit.flatMap((_, k) => [make("b", {}, k), make("span", { class: "pair" }, bar(a, k), bar(b, k))]);
    return make("div", {}, make("h3", {}, "Missed images per digit", make("span", { class: "soft" }, "mean over seeds")),
      make("p", { class: "keys" }, key(a), key(b)), make("div", { class: "bars" }, ...lines));
  };
  const disagreements = (a, b) => {
    const share = (arm, k) => missedBy(arm, k) / Math.max(1, arm.guesses.length);
    const apart = data.sets[a.set].numbers.map((_, k) => [k, share(a, k) - share(b, k)]).filter(([, d]) => d);
    apart.sort((p, q) => Math.abs(q[1]) - Math.abs(p[1]));
    const tiles = apart.slice(0, 24).map(([k]) => {
      const n = data.sets[a.set].numbers[k], said = [...wrong(a, k), ...wrong(b, k)].sort(), times = (digit) => said.filter((one) => one === digit).length;
      const taken = `${data.sets[a.set].labels[k]} → ${said.reduce((best, one) => times(one) > times(best) ? one : best)}`;
      return make("li", {}, make("button", { type: "button", class: "tile", "data-set": a.set, "data-image": k, "aria-label": `image ${n}, ${taken}: ${a.id} missed by ${missedBy(a, k)}, ${b.id} by ${missedBy(b, k)}` },
        picture(a.set, k), make("span", { class: "says" }, taken), make("span", { class: "says" }, `${missedBy(a, k)}/${a.guesses.length} : ${missedBy(b, k)}/${b.guesses.length}`)));
    });
    return make("div", {}, make("h3", {}, "Images on which they disagree", make("span", { class: "soft" }, "among the hardest; label → commonest wrong answer; seeds that miss it, first arm : second")),
      tiles.length ? make("ul", { class: "tiles" }, ...tiles) : make("p", {}, "None among the hardest images."));
  };
  const first = data.groups.find((group) => group.arms.length > 1) || data.groups[0];
  const mean = (index) => data.arms[index].test.reduce((a, b) => a + b, 0) / (data.arms[index].test.length || 1);
  const ranked = [...first.arms].sort((a, b) => mean(b) - mean(a));
  fill($("arm-a"), ranked[0]);
  fill($("arm-b"), ranked[1] ?? ranked[0]);
  compare();

  // --- the address: #study/arm opens that trial and chooses it for the comparison; #compare/study/arm/study/arm a
  // comparison; #digits/number an image (of the second data set: /2) ---
  const ids = data.arms.map((arm) => arm.id);
  const toPair = (id) => {
    const [what, ...names] = id.split("/"), a = ids.indexOf(names.slice(0, 2).join("/")), b = ids.indexOf(names.slice(2).join("/"));
    if (what !== "compare" || a < 0 || b < 0) return false;
    [$("arm-a").value, $("arm-b").value] = [a, b];
    compare();
    $("compare").scrollIntoView();
    return true;
  };
  const toDigit = (id) => {
    const [, number, set = 1] = id.match(/^digits\/(\d+)(?:\/(\d+))?$/) || [], place = data.sets[set - 1]?.numbers.indexOf(Number(number)) ?? -1;
    if (place >= 0) openDigit(set - 1, place, true);
    return place >= 0;
  };
  const toTrial = (id) => {
    const index = ids.indexOf(id), group = index >= 0 ? groupOf(index) : data.groups.findIndex((one) => one.name.replaceAll(" ", "-") === id);
    if (group < 0) return false;
    $("curve-group").value = group;
    legend();
    if (view) draw();
    if (index < 0) return true;
    $("arm-a").value = index;
    if ($("arm-b").value === String(index)) $("arm-b").value = data.groups[group].arms.find((other) => other !== index) ?? index;
    compare();
    $(id).scrollIntoView();
    $(id).focus({ preventScroll: true });
    return true;
  };
  const follow = () => {
    if (leaving) { leaving = false; return stay(); }
    if ($("digit").open && !location.hash.startsWith("#digits/")) { $("digit").close(); added = false; return stay(); }
    let id = location.hash.slice(1);
    try { id = decodeURIComponent(id); } catch { /* no code in it: as it stands */ }
    const there = !id || toPair(id) || toDigit(id) || toTrial(id) || $(id);
    $("nowhere").textContent = there ? "" : `no such ${id.startsWith("digits/") ? "digit here" : "trial"}: ${id}`;
  };
  addEventListener("hashchange", follow);
  follow();
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((one) => { one.open = true; }));
})();
