"use strict";
// The sample browser. A card holds its samples; `facefoundry browse` sends rows and answers for each picture shown.
// Everything that came from a data set goes through textContent or an attribute, never through markup.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const SVG = "http://www.w3.org/2000/svg";
  const PAGE = 48;
  // The open and closed lines that people expect between the 68 points.
  const LINES = [[0, 17, false], [17, 22, false], [22, 27, false], [27, 31, false], [31, 36, false], [36, 42, true],
    [42, 48, true], [48, 60, true], [60, 68, true]];
  const NAMES = { landmarks: "landmarks", map: "map coverage", field: "field", parts: "parts" };
  const KEYS = { landmarks: "l", map: "m", field: "f", parts: "p" };
  const grid = byId("grid"), large = byId("large");
  let shown = [], drawn = 0, opened = -1;

  const element = (tag, attributes = {}, text = null) => {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    if (text !== null) made.textContent = text;
    return made;
  };
  const drawing = (tag, attributes) => {
    const made = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    return made;
  };
  const known = (value) => typeof value === "number";
  const title = (row) => (row.id || `sample ${row.n}`) + (row.copy ? ` · copy ${row.copy}` : "");
  const degrees = (value) => `${value < 0 ? "−" : ""}${Math.abs(value).toFixed(1)}°`;
  const summary = (row) => [
    known(row.yaw) ? `yaw ${degrees(row.yaw)}` : "", known(row.residual) ? `${row.residual.toFixed(2)} px` : "",
  ].filter(Boolean).join(" · ") || `number ${row.n}`;

  // ------------------------------------------------------------------------------------------------- one sample's layers
  const described = async (row) => {
    if (data.live && row.width === undefined) {
      const answer = await fetch(`samples/${row.n}.json`);
      if (!answer.ok) throw new Error(await answer.text());
      Object.assign(row, await answer.json());
    }
    return row;
  };
  const address = (row, layer) => (data.live ? `samples/${row.n}/${layer}.webp` : row[layer]);

  const points = (row) => {
    const svg = drawing("svg", { class: "over landmarks", viewBox: `-0.5 -0.5 ${row.width} ${row.height}`, "aria-hidden": "true" });
    const radius = Math.max(row.width, row.height) / 210;
    for (const face of row.landmarks || []) {
      for (const [start, stop, closed] of face.length === 68 ? LINES : []) {
        const line = face.slice(start, stop);
        if (line.some((point) => point === null)) continue;
        if (closed) line.push(line[0]);
        svg.append(drawing("polyline", { points: line.map((point) => point.join(",")).join(" ") }));
      }
      for (const point of face) if (point) svg.append(drawing("circle", { cx: point[0], cy: point[1], r: radius }));
    }
    return svg;
  };

  const layers = (row, alternative) => {
    const box = element("div", { class: "layers" });
    const picture = element("img", { loading: "lazy", decoding: "async", alt: alternative, src: address(row, "image") });
    box.append(picture);
    const lay = () => {
      for (const name of data.overlays.filter((name) => name !== "landmarks" && byId(`lay-${name}`).checked)) {
        if (!box.querySelector(`.${name}`)) {
          box.append(element("img", { class: `over ${name}`, loading: "lazy", alt: "", src: address(row, name) }));
        }
      }
      if (data.overlays.includes("landmarks") && byId("lay-landmarks").checked && !box.querySelector(".landmarks") && !box.asked) {
        box.asked = true;
        described(row).then(() => box.append(points(row))).catch(() => { box.asked = false; });
      }
    };
    box.lay = lay;
    lay();
    return box;
  };

  // ------------------------------------------------------------------------------------------------------------- the grid
  const tile = (row, place) => {
    const item = element("li");
    const button = element("button", { class: "tile", type: "button", title: title(row) });
    const caption = element("span", { class: "caption" });
    const stem = title(row).split("/").pop(), folder = title(row).slice(0, -stem.length - 1);
    caption.append(element("b", {}, stem), element("span", {}, summary(row)));
    if (folder) caption.append(element("span", {}, folder));
    button.append(layers(row, ""), caption);
    button.addEventListener("click", () => open(place));
    item.append(button);
    return item;
  };

  const draw = () => {
    const next = shown.slice(drawn, drawn + PAGE);
    grid.append(...next.map((row, place) => tile(row, drawn + place)));
    drawn += next.length;
    byId("more").hidden = drawn >= shown.length;
  };

  const number = (id, otherwise) => {
    const text = byId(id).value.trim();
    return text === "" || Number.isNaN(Number(text)) ? otherwise : Number(text);
  };

  const arrange = () => {
    const source = byId("source").value.trim().toLowerCase();
    const from = number("yaw-from", -Infinity), to = number("yaw-to", Infinity), most = number("residual-to", Infinity);
    const yawAsked = from > -Infinity || to < Infinity;
    shown = data.rows.filter((row) =>
      row.id.toLowerCase().includes(source) &&
      (known(row.yaw) ? row.yaw >= from && row.yaw <= to : !yawAsked) &&
      (known(row.residual) ? row.residual <= most : most === Infinity));
    const by = byId("sort").value, sign = byId("descending").checked ? -1 : 1;
    const key = (row) => (by === "turn" ? (known(row.yaw) ? Math.abs(row.yaw) : null) : row[by]);
    shown.sort((a, b) => {
      const one = key(a), other = key(b);
      if (one === other) return a.n - b.n;
      if (one === null || one === undefined) return 1;  // what is not known comes last, whichever way
      if (other === null || other === undefined) return -1;
      return one < other ? -sign : sign;
    });
    grid.replaceChildren();
    drawn = 0;
    draw();
    const all = data.rows.length.toLocaleString("en");
    byId("count").textContent = shown.length ? `${shown.length.toLocaleString("en")} of ${all} samples` :
      `None of ${all} samples is like that; widen the search.`;
  };

  const lay = () => {
    for (const name of data.overlays) document.body.classList.toggle(`lay-${name}`, byId(`lay-${name}`).checked);
    for (const box of document.querySelectorAll(".layers")) if (box.lay) box.lay();
  };

  // ------------------------------------------------------------------------------------------------------- one sample large
  const enlarge = async (row) => {
    byId("large-title").textContent = title(row);
    byId("large-picture").replaceChildren(layers(row, title(row)));
    const facts = [["number", row.n], ["yaw", known(row.yaw) && degrees(row.yaw)], ["pitch", known(row.pitch) && degrees(row.pitch)],
      ["roll", known(row.roll) && degrees(row.roll)], ["residual", known(row.residual) && `${row.residual.toFixed(2)} px`]];
    byId("large-facts").replaceChildren(...facts.filter(([, value]) => value !== false).map(([name, value]) => {
      const pair = element("div");
      pair.append(element("dt", {}, name), element("dd", {}, String(value)));
      return pair;
    }));
    byId("before").disabled = opened <= 0;
    byId("after").disabled = opened < 0 || opened >= shown.length - 1;
    if (!large.open) {
      byId("large-overlays").append(byId("overlays"));  // one set of switches, wherever one looks
      large.showModal();
    }
  };
  const open = (place) => {
    if (place < 0 || place >= shown.length) return;
    opened = place;
    while (drawn <= place) draw();
    enlarge(shown[place]);
  };
  const openNumber = async (n) => {
    const place = shown.findIndex((row) => row.n === n);
    if (place >= 0) { open(place); return; }
    opened = -1;
    try {
      enlarge(await described({ n, id: "" }));
    } catch (error) {
      byId("count").textContent = `Sample ${n} cannot be opened: ${error.message}`;
    }
  };

  // --------------------------------------------------------------------------------------------------------- keys and buttons
  const move = (event) => {
    const tiles = [...grid.querySelectorAll(".tile")], place = tiles.indexOf(document.activeElement);
    if (place < 0) return;
    const top = tiles[0].getBoundingClientRect().top;
    const across = tiles.findIndex((one) => one.getBoundingClientRect().top > top + 1);
    const row = across < 0 ? tiles.length : across;
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -row, ArrowDown: row, Home: -place, End: tiles.length - 1 - place }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    const target = tiles[Math.min(Math.max(place + step, 0), tiles.length - 1)];
    target.focus();
  };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName) && event.target.type !== "checkbox";
    if (typing) return;
    const overlay = data.overlays.find((name) => KEYS[name] === event.key.toLowerCase());
    if (overlay) {
      byId(`lay-${overlay}`).click();
    } else if (large.open) {
      if (event.key === "ArrowLeft") open(opened - 1);
      if (event.key === "ArrowRight" && opened >= 0) open(opened + 1);
    } else if (event.key === "/") {
      event.preventDefault();
      byId("source").focus();
    } else {
      move(event);
    }
  });
  for (const name of data.overlays) {
    const label = element("label", { class: "check" });
    const box = element("input", { type: "checkbox", id: `lay-${name}` });
    box.addEventListener("change", lay);
    label.append(box, document.createTextNode(` ${NAMES[name]}`));
    byId("overlays").append(label);
  }
  byId("overlays").hidden = !data.overlays.length;
  byId("overlay-keys").textContent = data.overlays.map((name) => `${KEYS[name].toUpperCase()} ${NAMES[name]}`).join(", ");
  for (const id of ["source", "yaw-from", "yaw-to", "residual-to", "sort", "descending"]) byId(id).addEventListener("input", arrange);
  byId("controls").addEventListener("submit", (event) => {
    event.preventDefault();
    if (data.live && byId("number").value !== "") openNumber(Number(byId("number").value));
  });
  byId("jump").hidden = !data.live;
  byId("number").max = data.samples - 1;
  byId("more").addEventListener("click", draw);
  byId("close").addEventListener("click", () => large.close());
  byId("before").addEventListener("click", () => open(opened - 1));
  byId("after").addEventListener("click", () => open(opened + 1));
  large.addEventListener("click", (event) => { if (event.target === large) large.close(); });
  large.addEventListener("close", () => {
    byId("controls").insertBefore(byId("overlays"), byId("jump"));
    if (opened >= 0) grid.querySelectorAll(".tile")[opened]?.focus();
  });
  if (data.overlays.includes("landmarks")) byId("lay-landmarks").checked = true;
  lay();
  arrange();
})();
