"use strict";
// Everything on the page is there without this script: it hides the panels that are not chosen, and moves the budget.
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const one = (selector, root = document) => root.querySelector(selector);
  const make = (tag, text, parent) => {
    const element = document.createElement(tag);
    element.textContent = text;
    parent.append(element);
    return element;
  };
  const reload = one("#reload");
  let touched = 0;
  for (const kind of ["pointerdown", "keydown", "input", "wheel", "touchmove"]) {
    addEventListener(kind, () => {
      touched = Date.now();
    });
  }
  if (reload) {
    const wait = 1000 * Number(reload.dataset.seconds);
    setInterval(() => {
      if (Date.now() - touched > 2 * wait) location.reload();
    }, wait);
  }
  if (!one("#first")) return; // nothing is trained yet

  const panels = new Map(all(".panel").map((panel) => [panel.dataset.arch, panel]));
  const points = all(".point");
  const members = all(".panel[data-kind=front]").map((panel) => panel.dataset);
  const first = one("#first");
  const second = one("#second");
  const pick = one("#pick");
  let timer = 0;

  const chosen = () => {
    const parts = new URLSearchParams(location.hash.slice(1));
    const known = (name) => (panels.has(parts.get(name)) ? parts.get(name) : "");
    return { arch: known("arch"), other: known("with") };
  };
  const choose = (arch, other) => {
    const beside = other && other !== arch ? `&with=${other}` : "";
    location.hash = arch ? `arch=${arch}${beside}` : "front";
  };

  const number = (value) => (value === "" ? NaN : Number(value));
  const digits = (value) => (Math.abs(value) < 10 ? value.toFixed(2) : value.toFixed(1));
  const signed = (value) => (value < 0 ? "−" : "+") + digits(Math.abs(value));
  const rows = [
    ["AP x100", "ap", 1],
    ["AP50 x100", "ap50", 1],
    ["latency, ms", "ms", 1],
    ["parameters, M", "params", 1e-6],
    ["multiply-adds, G", "macs", 1e-9],
  ];
  const compare = (arch, other) => {
    const place = one("#difference");
    place.replaceChildren();
    if (!arch || !other) return;
    const [one_, two] = [panels.get(arch).dataset, panels.get(other).dataset];
    const table = document.createElement("table");
    table.className = "numbers";
    make("caption", "The two side by side", table);
    const head = make("tr", "", make("thead", "", table));
    for (const title of ["", one_.title, two.title, "difference"]) make("th", title, head);
    const body = make("tbody", "", table);
    for (const [title, name, unit] of rows) {
      const [left, right] = [number(one_[name]) * unit, number(two[name]) * unit];
      const row = make("tr", "", body);
      make("th", title, row);
      for (const value of [left, right]) make("td", Number.isNaN(value) ? "-" : digits(value), row);
      const change = right - left;
      const share = left > 0 && name !== "ap" && name !== "ap50" ? ` (${signed((100 * change) / left)} %)` : "";
      make("td", Number.isNaN(change) ? "-" : signed(change) + share, row);
    }
    place.append(table);
  };

  const show = () => {
    const { arch, other } = chosen();
    for (const [name, panel] of panels) {
      panel.classList.toggle("open", name === arch || name === other);
      panel.style.order = name === arch ? 0 : 1;
    }
    for (const point of points) {
      point.classList.toggle("chosen", point.dataset.arch === arch);
      point.classList.toggle("other", point.dataset.arch === other);
    }
    one("#panels").classList.toggle("two", Boolean(arch && other));
    one("#hint").hidden = Boolean(arch);
    first.value = arch;
    second.value = other;
    second.disabled = pick.disabled = !arch;
    compare(arch, other);
  };

  const tip = one("#tip");
  const hide = () => {
    tip.hidden = true;
  };
  const point_at = (point) => {
    tip.textContent = point.getAttribute("aria-label");
    tip.hidden = false;
    const box = point.getBoundingClientRect();
    const left = box.left + box.width / 2 - tip.offsetWidth / 2;
    const room = document.documentElement.clientWidth - tip.offsetWidth - 8;
    tip.style.left = `${Math.max(8, Math.min(left, room))}px`;
    const above = box.top - tip.offsetHeight - 8;
    tip.style.top = `${above > 4 ? above : box.bottom + 8}px`;
  };
  const come_into_view = () => {
    // On a phone the panel takes the place of the chart; on a larger screen part of the chart stays in view.
    const aim = matchMedia("(max-width:720px)").matches ? 8 : 0.55 * innerHeight;
    const top = one("#choice").getBoundingClientRect().top;
    if (top > aim) scrollBy({ top: top - aim, behavior: "smooth" });
  };
  for (const point of points) {
    const title = one("title", point);
    point.setAttribute("aria-label", title.textContent);
    title.remove(); // the browser would show it beside ours
    point.addEventListener("pointerenter", () => point_at(point));
    point.addEventListener("pointerleave", hide);
    point.addEventListener("focus", () => point_at(point));
    point.addEventListener("blur", hide);
    point.addEventListener("click", (event) => {
      event.preventDefault();
      if (!panels.has(point.dataset.arch)) return;
      const { arch } = chosen();
      const beside = arch && (event.shiftKey || pick.getAttribute("aria-pressed") === "true");
      pick.setAttribute("aria-pressed", "false");
      if (beside) choose(arch, point.dataset.arch);
      else choose(point.dataset.arch, "");
      hide();
      come_into_view();
    });
  }
  addEventListener("scroll", hide, { passive: true });
  first.addEventListener("change", () => choose(first.value, second.value));
  second.addEventListener("change", () => choose(first.value, second.value));
  pick.addEventListener("click", () => {
    pick.setAttribute("aria-pressed", pick.getAttribute("aria-pressed") === "true" ? "false" : "true");
  });

  const slider = one("#budget");
  const share_to_ms = (share) => {
    const [low, high] = [Number(slider.dataset.low), Number(slider.dataset.high)];
    return slider.dataset.log === "1" ? low * (high / low) ** share : low + share * (high - low);
  };
  const place_of = (chart, ms) => {
    const { low, high, start, end, log } = chart.dataset;
    const share = log === "1" ? Math.log(ms / low) / Math.log(high / low) : (ms - low) / (high - low);
    return Number(start) + Math.max(0, Math.min(1, share)) * (Number(end) - Number(start));
  };
  const bought = (best, ms) => {
    const said = one("#bought");
    if (best < 0) {
      said.textContent = `Within ${digits(ms)} ms there is no member of the front.`;
      return;
    }
    const member = members[best];
    const text = [`Within ${digits(ms)} ms: detector ${member.title} (${member.words}).`];
    if (best > 0) {
      const before = members[best - 1];
      text.push(`It buys ${signed(member.ap - before.ap)} AP for ${digits(member.ms - before.ms)} ms over the one before.`);
    }
    if (best + 1 < members.length) {
      const next = members[best + 1];
      text.push(`${digits(next.ms - member.ms)} ms more would buy ${signed(next.ap - member.ap)} AP.`);
    } else text.push("No more latency buys anything.");
    said.textContent = text.join(" ");
  };
  let typed = 0; // a budget that was asked for lies between two steps of the slider
  const budget_ms = () => typed || share_to_ms(slider.value / slider.max);
  const is_within = ({ ms }, budget) => Math.min(Number(ms), Number(Number(ms).toPrecision(3))) <= budget; // as shown
  const spend = (moved) => {
    const ms = budget_ms();
    let best = -1;
    members.forEach((member, index) => {
      if (is_within(member, ms)) best = index;
    });
    one("#budget-ms").textContent = `${digits(ms)} ms`;
    slider.setAttribute("aria-valuetext", `${digits(ms)} ms`);
    bought(best, ms);
    if (!moved) return;
    for (const point of points) point.classList.toggle("bought", best >= 0 && point.dataset.arch === members[best].arch);
    for (const chart of all(".chart[data-low]")) {
      const budget = one(".budget", chart);
      const x = place_of(chart, ms);
      budget.setAttribute("visibility", "visible");
      one("path", budget).setAttribute("transform", `translate(${x} 0)`);
      one("rect", budget).setAttribute("x", x);
      one("rect", budget).setAttribute("width", Number(budget.dataset.right) - x);
    }
  };
  if (slider) {
    slider.addEventListener("input", () => {
      typed = 0;
      spend(true);
    });
    one("#open-bought").addEventListener("click", () => {
      const ms = budget_ms();
      const within = members.filter((member) => is_within(member, ms));
      if (within.length) choose(within[within.length - 1].arch, "");
      come_into_view();
    });
    const asked = number(new URLSearchParams(location.hash.slice(1)).get("budget") ?? "");
    if (asked > 0) {
      let share = 0;
      while (share < slider.max && share_to_ms((share + 1) / slider.max) <= asked) share += 1;
      slider.value = share;
      typed = asked;
    }
    spend(asked > 0);
  }

  for (const button of all("button.copy")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      const text = one("code", button.parentElement).textContent;
      try {
        await navigator.clipboard.writeText(text);
        button.textContent = "copied";
      } catch {
        getSelection().selectAllChildren(one("code", button.parentElement));
        button.textContent = "selected";
      }
      clearTimeout(timer);
      timer = setTimeout(() => {
        button.textContent = "copy";
      }, 1500);
    });
  }

  document.documentElement.classList.add("js");
  for (const control of all(".needs-script")) control.hidden = false;
  addEventListener("hashchange", show);
  show();
})();
