"use strict";
// Everything that comes from the director goes into the page as text, never as markup.
const EVERY_MS = 2000;
const HISTORY = 90;
const at = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";

/// An element with attributes and children; a string is a child as text.
function make(name, attributes, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) element.setAttribute(key, value);
  element.append(...children);
  return element;
}
function draw(name, attributes, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes || {})) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

// Numbers for people.
const GROUPED = new Intl.NumberFormat("en-GB");
const whole = (n) => GROUPED.format(n);
function short(n) {
  const units = ["", "k", "M", "G", "T", "P"];
  let unit = 0;
  while (n >= 999.5 && unit < units.length - 1) { n /= 1000; unit += 1; }
  const digits = unit === 0 || n >= 99.95 ? 0 : n >= 9.995 ? 1 : 2;
  return `${n.toFixed(digits)}${unit ? "\u202f" + units[unit] : ""}`;
}
function nanoseconds(ns) {
  if (ns < 1000) return `${ns} ns`;
  const [value, unit] = ns < 1e6 ? [ns / 1e3, "µs"] : ns < 1e9 ? [ns / 1e6, "ms"] : [ns / 1e9, "s"];
  return `${value >= 100 ? value.toFixed(0) : value.toPrecision(3).replace(/\.?0+$/, "")} ${unit}`;
}
function duration(ms) {
  const s = Math.floor(ms / 1000);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor(s / 60) % 60} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor(s / 3600) % 24} h`;
}
const plural = (n, one, many) => `${whole(n)} ${n === 1 ? one : many}`;
function share(part, all) {
  if (!(all > 0)) return "–";
  const percent = (part * 100) / all;
  return part > 0 && percent < 0.05 ? "< 0.1 %" : `${percent.toFixed(percent >= 9.95 || part === 0 ? 0 : 1)} %`;
}

// What is wanted, and what was seen before.
const wanted = { from: 0, open: new Set(), shut: new Set() };
let before = null;
let awayFrom = null;
// What the lines in the tiles are drawn from, by their titles.
const seen = new Map();
let timer = null;
let asking = null;

function query() {
  const parameters = new URLSearchParams({ order: at("order").value, from: wanted.from, limit: 25 });
  if (at("search").value.trim()) parameters.set("search", at("search").value.trim());
  if (at("troubled").checked) parameters.set("troubled", "1");
  for (const name of wanted.open) parameters.append("open", name);
  for (const name of wanted.shut) parameters.append("shut", name);
  return `status.json?${parameters}`;
}

async function ask() {
  clearTimeout(timer);
  // Whoever types is not to see the answer to what he typed before.
  if (asking) asking.abort();
  const mine = (asking = new AbortController());
  try {
    const answer = await fetch(query(), { signal: mine.signal, cache: "no-store" });
    if (!answer.ok) throw new Error(await answer.text());
    const status = await answer.json();
    if (mine !== asking) return;
    if (status.director) show(status.director);
    else away(status.error);
  } catch (error) {
    if (mine !== asking) return;
    away(error instanceof TypeError ? "directorctl serve, where this page came from, cannot be reached." : String(error.message || error));
  }
  asking = null;
  if (!document.hidden) timer = setTimeout(ask, EVERY_MS);
}

function away(why) {
  if (awayFrom === null) awayFrom = Date.now();
  before = null;
  at("state").textContent = "away";
  at("state").className = "bad";
  at("away").hidden = false;
  at("away-why").textContent = why;
  at("away-since").textContent = `It has been away for ${duration(Date.now() - awayFrom)}.`;
  at("all").classList.add("stale");
  document.title = "Director: away";
}

function show(now) {
  awayFrom = null;
  const past = before && before.uptime_ms < now.uptime_ms ? before : null;
  const seconds = past ? (now.uptime_ms - past.uptime_ms) / 1000 : 0;
  // Per second since the last answer; nothing while there is none.
  const rate = (current, former) => (past && seconds > 0 ? Math.max(0, current - former) / seconds : null);
  at("away").hidden = true;
  at("all").hidden = false;
  at("all").classList.remove("stale");
  const troubled = now.services.troubled;
  const [word, tone] = !now.conserved ? ["packets unaccounted for", "bad"]
    : troubled ? [`${plural(troubled, "service", "services")} in trouble`, "warn"] : ["all well", "good"];
  at("state").textContent = word;
  at("state").className = tone;
  document.title = troubled ? `Director: ${word}` : "Director";
  at("about").textContent = `version ${now.version} · ${now.dpdk} · up ${duration(now.uptime_ms)}`;
  at("asked").textContent = `asked at ${new Date().toLocaleTimeString("en-GB")}`;
  tiles(now, past, rate);
  services(now.services);
  latency(now.latency);
  drops(now, past, rate);
  lcores(now.lcores, past);
  ports(now.ports, past, rate);
  before = now;
}

const sum = (list, of) => list.reduce((all, one) => all + of(one), 0);

function tile(title, figure, unit, more, picture) {
  const value = make("dd", { class: "figure" }, figure);
  if (unit) value.append(make("small", {}, unit));
  return make("div", {}, make("dt", {}, title), value, make("dd", { class: "more" }, more), ...(picture ? [picture] : []));
}

function tiles(now, past, rate) {
  const received = sum(now.ports, (port) => port.rx_packets);
  const perSecond = rate(received, past ? sum(past.ports, (port) => port.rx_packets) : 0);
  const connections = sum(now.lcores, (lcore) => lcore.connections);
  const room = sum(now.lcores, (lcore) => lcore.capacity);
  const bits = 8 * (now.rates.inbps + now.rates.outbps);
  const available = now.services.total - now.services.troubled;
  at("tiles").replaceChildren(
    tile("Packets received", perSecond === null ? "–" : short(perSecond), "/s", `${short(received)} since the start`, spark("packets", perSecond)),
    tile("Connections", short(connections), "", `tables ${share(connections, room)} full`, spark("connections", connections)),
    tile("New connections", short(now.rates.cps), "/s", `${short(now.counters.connections)} made`, spark("new", now.rates.cps)),
    tile("Through services", short(bits), "bit/s", `${short(now.rates.inpps)} in, ${short(now.rates.outpps)} out /s`, spark("bits", bits)),
    tile("Services well", short(available), `of ${short(now.services.total)}`, plural(now.services.servers, "real server", "real servers"), spark("well", available)),
  );
}

/// A line of what there was until now.
function spark(title, value) {
  const values = seen.get(title) || [];
  seen.set(title, values);
  if (value !== null) values.push(value);
  if (values.length > HISTORY) values.shift();
  const picture = draw("svg", { viewBox: "0 0 100 30", preserveAspectRatio: "none", "aria-hidden": "true" });
  if (values.length < 2) return picture;
  const most = Math.max(...values, 1);
  const x = (i) => 100 - ((values.length - 1 - i) * 100) / Math.max(values.length - 1, 14);
  const points = values.map((value, i) => `${x(i).toFixed(2)},${(28 - (26 * value) / most).toFixed(2)}`);
  picture.append(draw("polygon", { class: "under", points: `${x(0)},30 ${points.join(" ")} 100,30` }),
    draw("polyline", { class: "spark", points: points.join(" ") }));
  return picture;
}

function services(list) {
  wanted.from = list.from;
  const found = list.found === list.total ? plural(list.total, "service", "services") : `${whole(list.found)} of ${plural(list.total, "service", "services")}`;
  at("services-count").textContent = `${found}, ${plural(list.servers, "real server", "real servers")} in all`;
  at("none").hidden = list.found > 0;
  at("none").textContent = list.total === 0
    ? "There is no virtual service yet. Add one: directorctl service add tcp 192.0.2.80:80" : "None is like that.";
  // What has the focus keeps it, although all is made anew.
  const focused = document.activeElement && document.activeElement.dataset.service;
  at("services").replaceChildren(...list.page.map(service));
  if (focused) {
    for (const button of at("services").querySelectorAll("button")) if (button.dataset.service === focused) button.focus({ preventScroll: true });
  }
  const pages = list.found > list.page.length;
  at("pages").hidden = !pages;
  at("before").disabled = list.from === 0;
  at("after").disabled = list.from + list.page.length >= list.found;
  at("range").textContent = `${whole(list.from + 1)} to ${whole(list.from + list.page.length)} of ${whole(list.found)}`;
}

const TROUBLE = { none: ["well", "good"], degraded: ["degraded", "warn"], down: ["down", "bad"] };

function service(one) {
  const ways = [one.scheduler];
  if (one.persistent) ways.push("persistent");
  if (one.one_packet) ways.push("one-packet");
  let [word, tone] = TROUBLE[one.trouble] || [one.trouble, "warn"];
  if (one.quorum && !one.quorum.has) word = one.quorum.sorry_server ? "sorry server" : "quorum lost";
  const cell = (value, unit) => make("span", { class: "cell" }, `${value} `, make("small", {}, unit));
  const button = make("button", { type: "button", "aria-expanded": String(one.open) },
    make("span", { class: "mark", "aria-hidden": "true" }, "›"),
    make("span", { class: "name" }, one.name, make("small", {}, ways.join(", "))),
    make("span", { class: "condition" }, make("span", { class: `badge ${tone}` }, word),
      make("small", { class: "quiet" }, ` ${whole(one.available)} of ${plural(one.total, "real server", "real servers")}`)),
    cell(short(one.active), "active"), cell(short(one.rates.cps), "new /s"), cell(short(one.rates.inpps), "packets /s"));
  button.dataset.service = one.name;
  button.addEventListener("click", () => {
    const [to, from] = one.open ? [wanted.shut, wanted.open] : [wanted.open, wanted.shut];
    to.add(one.name);
    from.delete(one.name);
    ask();
  });
  const row = make("div", { class: "service" }, button);
  if (one.open) row.append(servers(one));
  return row;
}

const STANDING = {
  in: ["in", "good"], ramping: ["ramping up", "warn"], held: ["fails, held in", "warn"], inhibited: ["fails, inhibited", "bad"],
  removed: ["fails, removed", "bad"], aside: ["aside, quorum lost", "warn"],
};

function servers(one) {
  if (one.total === 0) return make("p", { class: "servers quiet" }, "It has no real servers.");
  const titles = ["Real server", "Method", "Weight", "Active", "Inactive", "New /s", "Packets /s", "In all", "Condition"];
  const body = one.servers.map((server) => {
    const reduced = server.effective_weight !== server.weight;
    const [word, tone] = server.overloaded ? ["at its threshold", "warn"]
      : server.standing ? STANDING[server.standing] || [server.standing, "warn"]
        : server.weight === 0 ? ["drained", "warn"] : ["not checked", ""];
    const figures = [server.method, reduced ? `${server.effective_weight} of ${server.weight}` : String(server.weight),
      short(server.active), short(server.inactive), short(server.rates.cps), short(server.rates.inpps), short(server.counters.connections)];
    const condition = make("td", { class: "left", "data-label": "Condition" }, make("span", { class: `badge ${tone}` }, word));
    for (const failure of server.failures) condition.append(make("span", { class: "why" }, `${failure.check}: ${failure.error}`));
    return make("tr", {}, make("th", { scope: "row" }, server.address),
      ...figures.map((text, i) => make("td", { "data-label": titles[i + 1] }, text)), condition);
  });
  const head = titles.map((title, i) => make("th", { scope: "col", ...(i === 8 ? { class: "left" } : {}) }, title));
  const table = make("table", { "aria-label": `Real servers of ${one.name}` }, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...body));
  const rest = one.found - one.servers.length;
  const parts = rest > 0 ? [make("p", { class: "quiet" }, `${whole(rest)} more; find them by their address.`)] : [];
  return make("div", { class: "servers wide" }, table, ...parts);
}

function latency(known) {
  const { all, buckets } = known;
  at("latency-count").textContent = all.count ? `${short(all.count)} packets measured` : "";
  if (!all.count || buckets.length === 0) {
    at("latency").replaceChildren(make("p", { class: "quiet" }, "No packet was measured yet."));
    at("latency-words").replaceChildren();
    return;
  }
  at("latency-words").replaceChildren(...[["half", all.p50_ns], ["90 %", all.p90_ns], ["99 %", all.p99_ns], ["99.9 %", all.p99_9_ns], ["longest", all.max_ns]]
    .map(([name, ns]) => make("span", {}, `${name} `, make("b", {}, nanoseconds(ns)))));
  // Four buckets between two powers of two, each as wide as the other on this axis.
  const place = (ns) => { const power = Math.floor(Math.log2(ns)); return power + (ns / 2 ** power - 1); };
  const counts = new Map(buckets.map((bucket) => [Math.round(place(bucket.below_ns) * 4), bucket.count]));
  const low = Math.floor((Math.min(...counts.keys()) - 1) / 4);
  const high = Math.max(low + 3, Math.ceil(Math.max(...counts.keys()) / 4));
  // As wide as it is shown, so that letters keep their size.
  const [width, height, foot, headroom] = [Math.max(280, at("latency").clientWidth), 230, 26, 34];
  const x = (at4) => ((at4 / 4 - low) * width) / (high - low);
  const most = Math.max(...counts.values());
  const picture = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img",
    "aria-label": `Distribution of latency: half of the packets up to ${nanoseconds(all.p50_ns)}, 99 % up to ${nanoseconds(all.p99_ns)}` });
  for (const [end, count] of counts) {
    const tall = Math.max(1.5, ((height - foot - headroom) * count) / most);
    const bar = draw("rect", { x: x(end - 1) + 0.75, width: Math.max(1, x(end) - x(end - 1) - 1.5), y: height - foot - tall, height: tall, rx: 1.5 });
    bar.append(draw("title", {}, `below ${nanoseconds(2 ** Math.floor(end / 4) * (1 + (end % 4) / 4))}: ${share(count, all.count)}`));
    picture.append(bar);
  }
  picture.append(draw("line", { class: "axis", x1: 0, x2: width, y1: height - foot, y2: height - foot }));
  const every = Math.ceil((high - low) / Math.max(3, Math.floor(width / 80)));
  for (let power = low; power <= high; power += every) {
    const anchor = power === low ? "start" : power + every > high && x(power * 4) > width - 30 ? "end" : "middle";
    const label = draw("text", { x: x(power * 4), y: height - 8, "text-anchor": anchor });
    label.textContent = nanoseconds(2 ** power);
    picture.append(label);
  }
  for (const [name, ns, line] of [["50 %", all.p50_ns, 0], ["99 %", all.p99_ns, 1]]) {
    const where = Math.min(width - 1, Math.max(1, ((place(Math.max(ns, 1)) - low) * width) / (high - low)));
    const label = draw("text", { x: where + 4, y: 11 + 13 * line });
    label.textContent = name;
    if (where > width - 40) { label.setAttribute("text-anchor", "end"); label.setAttribute("x", where - 4); }
    picture.append(draw("line", { class: "at", x1: where, x2: where, y1: 2, y2: height - foot }), label);
  }
  at("latency").replaceChildren(picture);
}

function drops(now, past, rate) {
  const received = sum(now.lcores, (lcore) => lcore.received);
  const dropped = sum(now.lcores, (lcore) => lcore.dropped);
  at("drops-count").textContent = dropped ? `${short(dropped)}, ${share(dropped, received)} of all` : "";
  if (now.drops.length === 0) {
    at("drops").replaceChildren(make("p", { class: "quiet" }, "None was dropped."));
    return;
  }
  const former = new Map(past ? past.drops.map((drop) => [drop.reason, drop.count]) : []);
  at("drops").replaceChildren(...now.drops.map((drop) => {
    const perSecond = rate(drop.count, former.get(drop.reason) || 0);
    const also = perSecond ? ` · ${short(perSecond)} /s` : "";
    return make("div", { class: "drop" }, make("code", {}, drop.reason), make("span", {}, `${whole(drop.count)}${also}`), make("p", {}, drop.meaning));
  }));
}

function table(label, titles, rows, leftmost) {
  const head = make("tr", {}, ...titles.map((title, i) => make("th", { scope: "col", ...(i < leftmost ? { class: "left" } : {}) }, title)));
  const body = rows.map(([first, ...cells]) => make("tr", {}, make("th", { scope: "row" }, first),
    ...cells.map((cell, i) => make("td", i + 1 < leftmost ? { class: "left" } : {}, ...(Array.isArray(cell) ? cell : [cell])))));
  return make("table", { "aria-label": label }, make("thead", {}, head), make("tbody", {}, ...body));
}

/// A share as a number and a bar; from `full` on the bar warns.
function meter(part, all, full) {
  const value = all > 0 ? part / all : 0;
  const bar = make("i", {});
  bar.style.width = `${Math.min(100, value * 100).toFixed(1)}%`;
  return [share(part, all), make("span", { class: value >= full ? "meter full" : "meter", "aria-hidden": "true" }, bar)];
}

function lcores(list, past) {
  const former = new Map(past ? past.lcores.map((lcore) => [lcore.lcore, lcore]) : []);
  at("lcores").replaceChildren(table("Lcores", ["Lcore", "CPU", "Rounds with packets", "Table of connections", "Received", "Forwarded", "To the kernel", "Handed over", "Dropped", "Accounted for"],
    list.map((lcore) => {
      const was = former.get(lcore.lcore) || { loops: 0, busy_loops: 0 };
      return [`lcore ${lcore.lcore}`, String(lcore.cpu), meter(lcore.busy_loops - was.busy_loops, lcore.loops - was.loops, 0.9),
        meter(lcore.connections, lcore.capacity, 0.85), short(lcore.received), short(lcore.forwarded), short(lcore.punted),
        short(lcore.handed_over), short(lcore.dropped), make("span", { class: `badge ${lcore.conserved ? "good" : "bad"}` }, lcore.conserved ? "all" : "not all")];
    }), 1));
}

function ports(list, past, rate) {
  const former = new Map(past ? past.ports.map((port) => [port.port, port]) : []);
  at("ports").replaceChildren(table("Ports", ["Port", "For the kernel", "Ethernet address", "Received /s", "Sent /s", "Received", "Sent", "Lost", "Wrong lcore"],
    list.map((port) => {
      const was = former.get(port.port) || { rx_packets: 0, tx_packets: 0 };
      const perSecond = (key) => { const value = rate(port[key], was[key]); return value === null ? "–" : short(value); };
      const lost = port.rx_missed + port.rx_errors + port.rx_no_mbuf + port.tx_errors;
      return [port.device, port.mirror || "–", make("code", {}, port.mac), perSecond("rx_packets"), perSecond("tx_packets"), short(port.rx_packets),
        short(port.tx_packets), short(lost), short(sum(port.wrong_lcore, (n) => n))];
    }), 3));
}

function anew() {
  wanted.from = 0;
  ask();
}
let typing = null;
at("search").addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(anew, 150); });
at("find").addEventListener("submit", (event) => { event.preventDefault(); anew(); });
at("order").addEventListener("change", anew);
at("troubled").addEventListener("change", anew);
at("before").addEventListener("click", () => { wanted.from = Math.max(0, wanted.from - 25); ask(); });
at("after").addEventListener("click", () => { wanted.from += 25; ask(); });
addEventListener("resize", () => { if (before) latency(before.latency); });
document.addEventListener("visibilitychange", () => { if (!document.hidden) ask(); });
ask();
