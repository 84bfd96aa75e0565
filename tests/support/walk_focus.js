// Notes whatever is given the focus, and whether somebody who looks would see that it has it.
(() => {
  const REACHABLE = "a[href], button, input, select, textarea, summary, [tabindex='0']";
  const walk = { seen: new Set(), wrong: new Set() };
  const name = (each) => `${each.localName} ${(each.getAttribute("aria-label") ?? each.innerText ?? "").slice(0, 40)}`;
  const isShown = (each) => !each.closest(".unseen");
  const outlined = (each) => {
    for (let at = each, up = 0; at !== null && up < 4; at = at.parentElement, up += 1) {
      const { outlineStyle, outlineWidth } = getComputedStyle(at);
      if (outlineStyle !== "none" && parseFloat(outlineWidth) > 0) return true;
    }
    return false;
  };
  const covered = (each) => {
    const box = [...each.getClientRects()][0];
    const [x, y] = [box.left + Math.min(box.width / 2, 40), box.top + Math.min(box.height / 2, 12)];
    const hit = document.elementFromPoint(x, y);
    if (hit === null) return "is out of sight";
    return each.contains(hit) || hit.contains(each) ? undefined : `is behind ${name(hit)}`;
  };
  const look = (each, frames) => {
    if (document.activeElement !== each || !each.isConnected) return;
    const problem = !outlined(each) ? "nobody sees that it has the focus" : isShown(each) ? covered(each) : undefined;
    if (problem === undefined) return;
    // What was scrolled to may take some frames to be where it is drawn.
    if (frames > 0) requestAnimationFrame(() => look(each, frames - 1));
    else walk.wrong.add(`${name(each)}: ${problem}`);
  };
  walk.reachable = () =>
    [...document.querySelectorAll(REACHABLE)].filter((each) => {
      const isFirst = each.type !== "radio" || document.querySelector(`input[name="${each.name}"]`) === each;
      return each.checkVisibility() && !each.disabled && isFirst && each.tabIndex >= 0;
    });
  walk.missed = () => walk.reachable().filter((each) => !walk.seen.has(each)).map(name);
  document.addEventListener("focusin", ({ target }) => {
    walk.seen.add(target);
    look(target, 10);
  });
  window.walk = walk;
})();
